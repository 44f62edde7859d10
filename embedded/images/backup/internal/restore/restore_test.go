package restore

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"fluxbilling/embedded/images/backup/internal/seal"
	"fluxbilling/embedded/images/backup/internal/wire"
)

type stored struct{ identity, dump, archive string }

func store(t *testing.T) stored {
	t.Helper()
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	recipients, err := seal.ParseRecipients(key.Recipient().String())
	if err != nil {
		t.Fatal(err)
	}
	var sealed bytes.Buffer
	writer, err := seal.NewWriter(&sealed, recipients)
	if err != nil {
		t.Fatal(err)
	}
	writer.Write([]byte("PGDMP canary"))
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(sealed.Bytes())
	manifest, err := json.Marshal(wire.Manifest{
		FormatVersion: wire.ManifestVersion, Tenant: "acme", SHA256: hex.EncodeToString(sum[:]), SizeBytes: int64(sealed.Len()),
	})
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	put := func(name string, content []byte) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	put("20260102T030405Z-deadbeef.json", manifest)
	return stored{
		identity: put("key", []byte(key.String()+"\n")),
		dump:     put("20260102T030405Z-deadbeef.dump.gz.age", sealed.Bytes()),
		archive:  filepath.Join(folder, "acme.dump"),
	}
}

func left(t *testing.T, at stored) []string {
	t.Helper()
	entries, err := filepath.Glob(filepath.Join(filepath.Dir(at.archive), "*acme*"))
	if err != nil {
		t.Fatal(err)
	}
	unfinished, err := filepath.Glob(filepath.Join(filepath.Dir(at.archive), ".restoring-*"))
	if err != nil {
		t.Fatal(err)
	}
	return append(entries, unfinished...)
}

func TestOpenGivesTheArchiveToItsUserAlone(t *testing.T) {
	at := store(t)
	manifest, err := Open(at.identity, at.dump, at.archive)
	if err != nil || manifest.Tenant != "acme" {
		t.Fatalf("got %+v, %v", manifest, err)
	}
	content, err := os.ReadFile(at.archive)
	if err != nil || string(content) != "PGDMP canary" {
		t.Fatalf("got %q, %v", content, err)
	}
	if facts, err := os.Stat(at.archive); err != nil || facts.Mode() != 0o600 {
		t.Fatalf("got %v, %v", facts.Mode(), err)
	}
	if found := left(t, at); len(found) != 1 {
		t.Fatalf("got %v", found)
	}
	if _, err := Open(at.identity, at.dump, at.archive); err == nil || ExitCode(err) != 2 {
		t.Fatalf("onto an archive: got %v", err)
	}
}

func TestOpenLeavesNothingOfADumpThatIsNotWhatItMustBe(t *testing.T) {
	cases := map[string]struct {
		spoil func(t *testing.T, at stored)
		want  string
		code  int
	}{
		"a flipped byte": {func(t *testing.T, at stored) {
			content, _ := os.ReadFile(at.dump)
			content[len(content)-1] ^= 1
			os.WriteFile(at.dump, content, 0o600)
		}, "the dump must have the size", 3},
		"another key": {func(t *testing.T, at stored) {
			key, _ := age.GenerateX25519Identity()
			os.WriteFile(at.identity, []byte(key.String()), 0o600)
		}, "the identity must be of a backup key", 2},
		"no key": {func(t *testing.T, at stored) {
			os.WriteFile(at.identity, []byte("canary"), 0o600)
		}, "-identity must hold a private backup key", 2},
		"no manifest": {func(t *testing.T, at stored) {
			os.Remove(wire.ManifestName(at.dump))
		}, "the manifest must lie beside the dump", 2},
	}
	for name, spoiled := range cases {
		t.Run(name, func(t *testing.T) {
			at := store(t)
			spoiled.spoil(t, at)
			_, err := Open(at.identity, at.dump, at.archive)
			if err == nil || !strings.HasPrefix(err.Error(), spoiled.want) || ExitCode(err) != spoiled.code {
				t.Fatalf("got %v", err)
			}
			if strings.Contains(err.Error(), "canary") || len(left(t, at)) != 0 {
				t.Fatalf("got %v, left %v", err, left(t, at))
			}
		})
	}
}
