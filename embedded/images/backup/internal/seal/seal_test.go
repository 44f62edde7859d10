package seal

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"filippo.io/age"
)

func identity(t *testing.T) *age.X25519Identity {
	t.Helper()
	made, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func sealed(t *testing.T, content string, recipients ...string) []byte {
	t.Helper()
	parsed, err := ParseRecipients(strings.Join(recipients, ","))
	if err != nil {
		t.Fatal(err)
	}
	var to bytes.Buffer
	writer, err := NewWriter(&to, parsed)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := writer.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	return to.Bytes()
}

func open(content []byte, with age.Identity) (string, error) {
	var to bytes.Buffer
	err := Open(bytes.NewReader(content), []age.Identity{with}, &to)
	return to.String(), err
}

func TestEachRecipientOpensWhatWasSealedAndNobodyElse(t *testing.T) {
	one, other, stranger := identity(t), identity(t), identity(t)
	content := sealed(t, "canary", one.Recipient().String(), other.Recipient().String())
	for _, with := range []age.Identity{one, other} {
		if got, err := open(content, with); got != "canary" || err != nil {
			t.Fatalf("got %q, %v", got, err)
		}
	}
	if got, err := open(content, stranger); got != "" || !errors.Is(err, ErrKey) {
		t.Fatalf("got %q, %v", got, err)
	}
	if !bytes.HasPrefix(content, []byte(Magic)) || bytes.Contains(content, []byte("canary")) {
		t.Fatalf("got %q", content)
	}
}

func TestOpenRefusesEveryCutAndEveryFlippedByte(t *testing.T) {
	with := identity(t)
	content := sealed(t, "some content", with.Recipient().String())
	for position := range content {
		if _, err := open(content[:position], with); err == nil {
			t.Fatalf("cut at %d: got no error", position)
		}
		spoiled := bytes.Clone(content)
		spoiled[position] ^= 1
		if _, err := open(spoiled, with); err == nil {
			t.Fatalf("flipped at %d: got no error", position)
		}
	}
	if _, err := open(append(bytes.Clone(content), 0), with); err == nil {
		t.Fatal("bytes after the end: got no error")
	}
}

func TestParseRecipientsTakesPublicKeysOnly(t *testing.T) {
	private := identity(t).String()
	for _, text := range []string{"", "age1", "x", identity(t).Recipient().String() + ",", private} {
		if _, err := ParseRecipients(text); err == nil {
			t.Errorf("%q: got no error", text)
		}
	}
}

func TestParseIdentitiesShowsNothingOfTheFile(t *testing.T) {
	_, err := ParseIdentities(strings.NewReader("canary"))
	if err == nil || strings.Contains(err.Error(), "canary") {
		t.Fatalf("got %v", err)
	}
}
