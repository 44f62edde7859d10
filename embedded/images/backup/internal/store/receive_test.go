package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"fluxbilling/embedded/images/backup/internal/seal"
	"fluxbilling/embedded/images/backup/internal/wire"
)

const file = "20260102T030405Z-deadbeef.dump.gz.age"

func request(root string) Request {
	return Request{
		Root:        root,
		Tenant:      "acme",
		Command:     wire.Command("acme", file),
		KeepDays:    LeastKeepDays,
		MaxBytes:    1000,
		IdleTimeout: time.Minute,
		Now:         func() time.Time { return time.Date(2026, 1, 2, 3, 5, 0, 0, time.UTC) },
	}
}

func transfer(t *testing.T, content, tenant, name string) (stream []byte, sum string) {
	t.Helper()
	var buffer bytes.Buffer
	writer := wire.NewWriter(&buffer)
	writer.Write([]byte(seal.Magic + content))
	sum, size := writer.Sum()
	if err := writer.Finish(wire.Manifest{FormatVersion: wire.ManifestVersion, Recipients: []string{"age1"}, Tenant: tenant, File: name, SHA256: sum, SizeBytes: size}); err != nil {
		t.Fatal(err)
	}
	return buffer.Bytes(), sum
}

func names(t *testing.T, folder string) []string {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	found := []string{}
	for _, entry := range entries {
		found = append(found, entry.Name())
	}
	return found
}

func isRefused(err error) bool {
	var refusal *wire.Refusal
	return errors.As(err, &refusal)
}

func TestReceiveStoresTheDumpAndItsManifest(t *testing.T) {
	root := t.TempDir()
	stream, sum := transfer(t, "content", "acme", file)
	got, err := Receive(request(root), bytes.NewReader(stream))
	if err != nil || got != sum {
		t.Fatalf("got %s, %v", got, err)
	}
	if found := names(t, filepath.Join(root, "acme")); !slices.Equal(found, []string{file, wire.ManifestName(file)}) {
		t.Fatalf("got %v", found)
	}
	content, err := os.ReadFile(filepath.Join(root, "acme", file))
	if err != nil || string(content) != seal.Magic+"content" {
		t.Fatalf("got %q, %v", content, err)
	}
	var manifest map[string]any
	text, err := os.ReadFile(filepath.Join(root, "acme", wire.ManifestName(file)))
	if err != nil || json.Unmarshal(text, &manifest) != nil {
		t.Fatalf("got %q, %v", text, err)
	}
	if manifest["sha256"] != sum || manifest["receivedAt"] != "2026-01-02T03:05:00Z" {
		t.Fatalf("got %v", manifest)
	}
	facts, err := os.Stat(filepath.Join(root, "acme", file))
	if err != nil || facts.Mode() != 0o400 {
		t.Fatalf("got %v, %v", facts.Mode(), err)
	}
}

func TestReceiveNeverOverwrites(t *testing.T) {
	for _, existing := range []string{file, wire.ManifestName(file)} {
		root := t.TempDir()
		if err := os.MkdirAll(filepath.Join(root, "acme"), 0o700); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(root, "acme", existing)
		if err := os.WriteFile(path, []byte("earlier"), 0o600); err != nil {
			t.Fatal(err)
		}
		stream, _ := transfer(t, "later", "acme", file)
		if _, err := Receive(request(root), bytes.NewReader(stream)); !isRefused(err) {
			t.Fatalf("%s: got %v, want a refusal", existing, err)
		}
		if content, _ := os.ReadFile(path); string(content) != "earlier" {
			t.Fatalf("%s: got %q", existing, content)
		}
		if found := names(t, filepath.Join(root, "acme")); !slices.Equal(found, []string{existing}) {
			t.Fatalf("%s: got %v", existing, found)
		}
	}
}

func TestReceiveLeavesNothingOfACutTransfer(t *testing.T) {
	root := t.TempDir()
	stream, _ := transfer(t, "content", "acme", file)
	for length := range stream {
		if _, err := Receive(request(root), bytes.NewReader(stream[:length])); !errors.Is(err, wire.ErrCut) {
			t.Fatalf("cut at %d: got %v", length, err)
		}
		if found := names(t, filepath.Join(root, "acme")); len(found) != 0 {
			t.Fatalf("cut at %d: got %v", length, found)
		}
	}
}

func TestReceiveRefusesWhatTheKeyMayNot(t *testing.T) {
	cases := map[string]struct {
		command, tenant, name string
	}{
		"another tenant's folder":     {wire.Command("other", file), "other", file},
		"a shell":                     {"sh -c id", "acme", file},
		"a path":                      {"receive acme ../other/" + file, "acme", file},
		"nothing at all":              {"", "acme", file},
		"a manifest of another name":  {wire.Command("acme", file), "acme", "20260102T030405Z-00000000.dump.gz.age"},
		"a manifest of someone else":  {wire.Command("acme", file), "other", file},
		"an unfinished transfer name": {"receive acme .incoming-" + file, "acme", file},
	}
	for name, asked := range cases {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			stream, _ := transfer(t, "content", asked.tenant, asked.name)
			asking := request(root)
			asking.Command = asked.command
			if _, err := Receive(asking, bytes.NewReader(stream)); !isRefused(err) {
				t.Fatalf("got %v, want a refusal", err)
			}
			files := []string{}
			filepath.WalkDir(root, func(path string, entry os.DirEntry, _ error) error {
				if !entry.IsDir() {
					files = append(files, path)
				}
				return nil
			})
			if len(files) != 0 {
				t.Fatalf("got %v", files)
			}
		})
	}
}

func TestReceiveDoesNotFollowATenantsFolderElsewhere(t *testing.T) {
	root, elsewhere := t.TempDir(), t.TempDir()
	if err := os.Symlink(elsewhere, filepath.Join(root, "acme")); err != nil {
		t.Fatal(err)
	}
	stream, _ := transfer(t, "content", "acme", file)
	if _, err := Receive(request(root), bytes.NewReader(stream)); err == nil || isRefused(err) {
		t.Fatalf("got %v, want the store's own trouble", err)
	}
	if found := names(t, elsewhere); len(found) != 0 {
		t.Fatalf("got %v", found)
	}
}

func TestReceiveClearsWhatAKilledTransferLeft(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "acme"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "acme", unfinishedPrefix+file), []byte("half"), 0o400); err != nil {
		t.Fatal(err)
	}
	stream, _ := transfer(t, "content", "acme", file)
	if _, err := Receive(request(root), bytes.NewReader(stream)); err != nil {
		t.Fatal(err)
	}
	if found := names(t, filepath.Join(root, "acme")); !slices.Equal(found, []string{file, wire.ManifestName(file)}) {
		t.Fatalf("got %v", found)
	}
}

func TestReceiveTakesOneTransferOfATenantAtATime(t *testing.T) {
	root := t.TempDir()
	input, output := io.Pipe()
	first := make(chan error)
	go func() {
		_, err := Receive(request(root), input)
		first <- err
	}()
	stream, _ := transfer(t, "content", "acme", file)
	if _, err := output.Write(stream[:3]); err != nil {
		t.Fatal(err)
	}
	second := request(root)
	second.Command = wire.Command("acme", "20260102T030405Z-00000000.dump.gz.age")
	if _, err := Receive(second, bytes.NewReader(stream)); !isRefused(err) {
		t.Fatalf("got %v, want a refusal", err)
	}
	if _, err := output.Write(stream[3:]); err != nil {
		t.Fatal(err)
	}
	output.Close()
	if err := <-first; err != nil {
		t.Fatal(err)
	}
}

func TestReceiveEndsATransferFromWhichNothingComes(t *testing.T) {
	root := t.TempDir()
	input, _ := io.Pipe()
	asking := request(root)
	asking.IdleTimeout = 20 * time.Millisecond
	_, err := Receive(asking, input)
	if err == nil || err.Error() != "something must come at least every 20ms, got nothing" || !isRefused(err) {
		t.Fatalf("got %v", err)
	}
	if found := names(t, filepath.Join(root, "acme")); len(found) != 0 {
		t.Fatalf("got %v", found)
	}
}
