package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"fluxbilling/embedded/images/backup/internal/seal"
)

func sent(t *testing.T, content []byte, spoil func(*Manifest)) []byte {
	t.Helper()
	var stream bytes.Buffer
	writer := NewWriter(&stream)
	if _, err := writer.Write(content); err != nil {
		t.Fatal(err)
	}
	sum, size := writer.Sum()
	manifest := Manifest{FormatVersion: ManifestVersion, Tenant: "acme", File: "f", SHA256: sum, SizeBytes: size, Recipients: []string{"age1"}}
	spoil(&manifest)
	if err := writer.Finish(manifest); err != nil {
		t.Fatal(err)
	}
	return stream.Bytes()
}

func intact(*Manifest) {}

// sealed is content that looks encrypted.
func sealed(content string) []byte { return []byte(seal.Magic + content) }

func read(stream []byte, maxBytes int64) ([]byte, Manifest, error) {
	var sink bytes.Buffer
	manifest, err := Read(bytes.NewReader(stream), &sink, maxBytes, func() {})
	return sink.Bytes(), manifest, err
}

func TestReadGivesBackWhatWasWritten(t *testing.T) {
	content := sealed(strings.Repeat("0123456789abcdef", maxDataBytes/8))
	got, manifest, err := read(sent(t, content, intact), int64(len(content)))
	if err != nil || !bytes.Equal(got, content) || manifest.SizeBytes != int64(len(content)) {
		t.Fatalf("got %d bytes, manifest %+v, error %v", len(got), manifest, err)
	}
}

func TestReadRefusesEveryCutOfATransfer(t *testing.T) {
	whole := sent(t, sealed("some content"), intact)
	for length := range whole {
		if _, _, err := read(whole[:length], 1000); !errors.Is(err, ErrCut) {
			t.Fatalf("cut at %d: got %v, want ErrCut", length, err)
		}
	}
}

func TestReadRefusesEveryFlippedByteOfTheData(t *testing.T) {
	whole := sent(t, sealed("some content"), intact)
	for position := headerBytes; position < headerBytes+len(sealed("some content")); position++ {
		spoiled := bytes.Clone(whole)
		spoiled[position] ^= 1
		var refusal *Refusal
		if _, _, err := read(spoiled, 1000); !errors.As(err, &refusal) {
			t.Fatalf("flipped at %d: got %v, want a refusal", position, err)
		}
	}
}

func TestReadRefuses(t *testing.T) {
	frame := func(kind byte, length uint32) []byte {
		header := [headerBytes]byte{kind}
		binary.BigEndian.PutUint32(header[1:], length)
		return header[:]
	}
	cases := map[string]struct {
		stream []byte
		want   string
	}{
		"more than the limit": {sent(t, sealed(string(make([]byte, 1001))), intact), "a dump must hold at most 1000 bytes, got more"},
		"another hash":        {sent(t, sealed("x"), func(m *Manifest) { m.SHA256 = "00" }), `the manifest's sha256 must be cffb17e02af0d9ef306dc5284dafb76246d2570c23ec2da0e2e9edc1ce52f3b8, got "00"`},
		"another size":        {sent(t, sealed("x"), func(m *Manifest) { m.SizeBytes = 2 }), "the manifest's sizeBytes must be 23, got 2"},
		"another version":     {sent(t, sealed("x"), func(m *Manifest) { m.FormatVersion = 1 }), "the manifest's formatVersion must be 2, got 1"},
		"a clear dump":        {sent(t, []byte("PGDMP"), intact), "a dump must be encrypted to a backup key, got one that is not"},
		"a cut head":          {sent(t, []byte(seal.Magic[:5]), intact), "a dump must be encrypted to a backup key, got one that is not"},
		"no backup key":       {sent(t, sealed("x"), func(m *Manifest) { m.Recipients = nil }), "the manifest must name the backup keys that open the dump, got none"},
		"an empty dump":       {sent(t, nil, intact), "a dump must not be empty, got 0 bytes"},
		"an unknown frame":    {frame('X', 1), "a frame must be data or manifest, got kind 0x58"},
		"a huge data frame":   {frame('D', 1<<31), "a data frame must hold at most 1048576 bytes, got 2147483648"},
		"a huge manifest":     {frame('M', 1<<31), "a manifest must hold at most 16384 bytes, got 2147483648"},
		"bytes after the end": {append(sent(t, sealed("x"), intact), 0), "nothing must follow the manifest, got more bytes"},
		"a manifest of noise": {append(frame('M', 5), "noise"...), "the manifest must be JSON with the fields of this version, got something else"},
	}
	for name, spoiled := range cases {
		t.Run(name, func(t *testing.T) {
			if _, _, err := read(spoiled.stream, 1000); err == nil || err.Error() != spoiled.want {
				t.Fatalf("got %v, want %s", err, spoiled.want)
			}
		})
	}
}

func TestReadTellsTheStoresTroubleFromARefusal(t *testing.T) {
	_, err := Read(bytes.NewReader(sent(t, sealed("x"), intact)), fullDisk{}, 1000, func() {})
	var refusal *Refusal
	if !errors.Is(err, io.ErrShortBuffer) || errors.As(err, &refusal) {
		t.Fatalf("got %v, want the sink's own error", err)
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, io.ErrShortBuffer }

func TestParseCommandTakesOnlyItsOwn(t *testing.T) {
	file := FileName(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), [4]byte{0xde, 0xad, 0xbe, 0xef})
	if file != "20260102T030405Z-deadbeef.dump.gz.age" || ManifestName(file) != "20260102T030405Z-deadbeef.json" {
		t.Fatalf("got %s, %s", file, ManifestName(file))
	}
	if tenant, got, err := ParseCommand(Command("acme", file)); tenant != "acme" || got != file || err != nil {
		t.Fatalf("got %s, %s, %v", tenant, got, err)
	}
	for _, command := range []string{
		"", "sh", "receive", "receive acme", "receive acme " + file + " x", "receive  acme " + file,
		"receive ../acme " + file, "receive acme ../" + file, "receive acme /etc/passwd",
		"receive acme " + file + "\n", "receive Acme " + file, "receive acme .incoming-" + file,
		"receive acme " + file + ";sh", "send acme " + file, "receive acme\x00 " + file,
	} {
		if _, _, err := ParseCommand(command); err == nil {
			t.Errorf("%q: got no error", command)
		}
	}
}
