package main

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func key(fill byte) []byte { return bytes.Repeat([]byte{fill}, keyBytes) }

// files makes a folder with these files.
func files(t *testing.T, contents map[string]string) string {
	t.Helper()
	folder := t.TempDir()
	for name, content := range contents {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

func keyring(t *testing.T, contents map[string]string) *Keyring {
	t.Helper()
	ring, err := ReadKeyring(files(t, contents))
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

func TestReadKeyringTakesRawHexadecimalAndBase64(t *testing.T) {
	wanted := keyring(t, map[string]string{"settings-1": string(key(7)), "active": "1"}).ID(1)
	for name, content := range map[string]string{
		"hexadecimal":       hex.EncodeToString(key(7)) + "\n",
		"base64":            base64.StdEncoding.EncodeToString(key(7)),
		"base64 without =":  base64.RawStdEncoding.EncodeToString(key(7)) + "\n",
		"raw and unchanged": string(key(7)),
	} {
		if got := keyring(t, map[string]string{"settings-1": content, "active": "1\n"}).ID(1); got != wanted {
			t.Errorf("%s: got key %s, want %s", name, got, wanted)
		}
	}
}

func TestReadKeyringRefusesAndShowsNoKey(t *testing.T) {
	cases := map[string]struct {
		contents map[string]string
		want     string
	}{
		"no active version":      {map[string]string{"settings-1": string(key(1))}, `must have a file "active", got none; write the active version into it`},
		"an active one it lacks": {map[string]string{"settings-1": string(key(1)), "active": "2"}, "must hold the active key 2, got [1]; add its file"},
		"a short key":            {map[string]string{"settings-1": "canary", "active": "1"}, `key file "settings-1": must hold 32 bytes, raw, hexadecimal or base64, got 6 bytes that are neither; derive the key anew`},
		"version 0":              {map[string]string{"settings-0": string(key(1)), "active": "0"}, `key file "settings-0": a key version must be a whole number of at least 1, got "0"; rename it`},
		"a version with a zero":  {map[string]string{"settings-01": string(key(1)), "active": "1"}, `key file "settings-01": a key version must be a whole number of at least 1, got "01"; rename it`},
	}
	for name, spoiled := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := ReadKeyring(files(t, spoiled.contents))
			if err == nil || !strings.HasSuffix(err.Error(), spoiled.want) || strings.Contains(err.Error(), "canary") {
				t.Fatalf("got %v\nwant %s", err, spoiled.want)
			}
		})
	}
}

func TestOpenGivesBackWhatSealTook(t *testing.T) {
	ring := keyring(t, map[string]string{"settings-1": string(key(1)), "settings-2": string(key(2)), "active": "2"})
	for _, plaintext := range [][]byte{nil, []byte("x"), bytes.Repeat([]byte("long"), 10_000)} {
		sealed := ring.Seal("acme", "smtp.password", plaintext)
		if version, err := SealedVersion(sealed); version != 2 || err != nil {
			t.Fatalf("got version %d, %v", version, err)
		}
		if opened, err := ring.Open("acme", "smtp.password", sealed); err != nil || !bytes.Equal(opened, plaintext) {
			t.Fatalf("got %q, %v", opened, err)
		}
	}
}

func TestSealNeverGivesTheSameTwice(t *testing.T) {
	ring := keyring(t, map[string]string{"settings-1": string(key(1)), "active": "1"})
	seen := map[string]bool{}
	for range 1000 {
		seen[string(ring.Seal("acme", "name", []byte("value")))] = true
	}
	if len(seen) != 1000 {
		t.Fatalf("got %d different values of 1000", len(seen))
	}
}

func TestOpenRefusesEveryFlippedBitAndEveryCut(t *testing.T) {
	ring := keyring(t, map[string]string{"settings-1": string(key(1)), "active": "1"})
	sealed := ring.Seal("acme", "name", []byte("value"))
	for position := range sealed {
		spoiled := bytes.Clone(sealed)
		spoiled[position] ^= 1
		if _, err := ring.Open("acme", "name", spoiled); !errors.Is(err, ErrNotOurs) {
			t.Errorf("flipped at %d: got %v", position, err)
		}
		if _, err := ring.Open("acme", "name", sealed[:position]); !errors.Is(err, ErrNotOurs) {
			t.Errorf("cut at %d: got %v", position, err)
		}
	}
}

func TestOpenRefusesAnotherTenantNameAndKey(t *testing.T) {
	ring := keyring(t, map[string]string{"settings-1": string(key(1)), "active": "1"})
	other := keyring(t, map[string]string{"settings-1": string(key(2)), "active": "1"})
	sealed := ring.Seal("acme", "name", []byte("value"))
	for name, attempt := range map[string]func() ([]byte, error){
		"another tenant":        func() ([]byte, error) { return ring.Open("other", "name", sealed) },
		"another name":          func() ([]byte, error) { return ring.Open("acme", "name2", sealed) },
		"the same run together": func() ([]byte, error) { return ring.Open("acmen", "ame", sealed) },
		"another tenant's key":  func() ([]byte, error) { return other.Open("acme", "name", sealed) },
	} {
		if value, err := attempt(); !errors.Is(err, ErrNotOurs) || value != nil {
			t.Errorf("%s: got %q, %v", name, value, err)
		}
	}
}
