// Package seal encrypts dumps to backup keys and opens them again.
//
// A sealed dump is an age file (age-encryption.org/v1) to X25519 recipients, of the gzip of a pg_dump
// archive in custom format. Whoever seals needs public keys only.
package seal

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"
)

// Magic begins every sealed dump.
const Magic = "age-encryption.org/v1\n"

// Recipients are the public keys of those who can open a dump.
type Recipients struct {
	// Names are the public keys as text, "age1…".
	Names []string
	keys  []age.Recipient
}

// ParseRecipients reads public keys that are parted by commas.
func ParseRecipients(text string) (Recipients, error) {
	recipients := Recipients{}
	for name := range strings.SplitSeq(text, ",") {
		key, err := age.ParseX25519Recipient(name)
		if err != nil {
			return Recipients{}, fmt.Errorf("must hold public backup keys \"age1…\", parted by commas, got %.80q", text)
		}
		recipients.Names = append(recipients.Names, name)
		recipients.keys = append(recipients.keys, key)
	}
	return recipients, nil
}

// Writer compresses and encrypts what is written to it. Only Close makes the dump whole.
type Writer struct {
	compressed *gzip.Writer
	encrypted  io.WriteCloser
}

// NewWriter seals to to, for these recipients.
func NewWriter(to io.Writer, recipients Recipients) (*Writer, error) {
	encrypted, err := age.Encrypt(to, recipients.keys...)
	if err != nil {
		return nil, err
	}
	return &Writer{gzip.NewWriter(encrypted), encrypted}, nil
}

func (w *Writer) Write(data []byte) (int, error) { return w.compressed.Write(data) }

// Close writes what remains; without it a reader knows that the dump was cut.
func (w *Writer) Close() error {
	return errors.Join(w.compressed.Close(), w.encrypted.Close())
}

// ErrKey means that none of the identities can open the dump.
var ErrKey = errors.New("the identity must be of a backup key that the dump was encrypted to, got another")

// Open writes the archive inside a sealed dump to to. It is genuine and whole only once Open returned nil.
func Open(sealed io.Reader, identities []age.Identity, to io.Writer) error {
	decrypted, err := age.Decrypt(sealed, identities...)
	var none *age.NoIdentityMatchError
	if errors.As(err, &none) {
		return ErrKey
	}
	if err != nil {
		return fmt.Errorf("the dump must be an age file, got %q", err)
	}
	decompressed, err := gzip.NewReader(decrypted)
	if err != nil {
		return fmt.Errorf("the dump must be whole, got %q", err)
	}
	if _, err := io.Copy(to, decompressed); err != nil {
		return fmt.Errorf("the dump must be whole, got %q", err)
	}
	// What follows gzip's end must be age's end: without it a cut between the two would pass.
	if rest, err := io.Copy(io.Discard, decrypted); err != nil || rest != 0 {
		return fmt.Errorf("the dump must end with its archive, got %d more bytes (%v)", rest, err)
	}
	return nil
}

// ParseIdentities reads private backup keys, as age-keygen writes them.
func ParseIdentities(from io.Reader) ([]age.Identity, error) {
	identities, err := age.ParseIdentities(from)
	if err != nil {
		// age's own error could show a line of the file.
		return nil, errors.New("must hold a private backup key \"AGE-SECRET-KEY-1…\", got none")
	}
	return identities, nil
}
