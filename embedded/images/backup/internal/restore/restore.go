// Package restore turns a stored dump back into what pg_restore reads.
package restore

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"fluxbilling/embedded/images/backup/internal/seal"
	"fluxbilling/embedded/images/backup/internal/wire"
)

// argumentError is the caller's to mend: a file or a key that is not what it must be.
type argumentError struct{ error }

// ExitCode is what the program ends with after err.
func ExitCode(err error) int {
	var argument argumentError
	if errors.As(err, &argument) || errors.Is(err, seal.ErrKey) {
		return 2
	}
	return 3
}

// Open writes the archive inside a dump to a new file and answers the dump's manifest.
//
// Nothing of the archive is to be had before all of it was found genuine: it is written under another
// name first, readable by this user only.
func Open(identityFile, dumpFile, archiveFile string) (wire.Manifest, error) {
	key, err := os.Open(identityFile)
	if err != nil {
		return wire.Manifest{}, argumentError{fmt.Errorf("-identity must be a readable file, got %q", identityFile)}
	}
	defer key.Close()
	identities, err := seal.ParseIdentities(key)
	if err != nil {
		return wire.Manifest{}, argumentError{fmt.Errorf("-identity %w", err)}
	}
	if _, err := os.Lstat(archiveFile); archiveFile == "" || err == nil {
		return wire.Manifest{}, argumentError{fmt.Errorf("-archive must be a new file, got %q", archiveFile)}
	}
	if !wire.IsFileName(filepath.Base(dumpFile)) {
		return wire.Manifest{}, argumentError{fmt.Errorf("-dump must be a file as the store names it, got %q", dumpFile)}
	}
	text, err := os.ReadFile(wire.ManifestName(dumpFile))
	if err != nil {
		return wire.Manifest{}, argumentError{fmt.Errorf("the manifest must lie beside the dump, got none at %q", wire.ManifestName(dumpFile))}
	}
	var manifest wire.Manifest
	if err := json.Unmarshal(text, &manifest); err != nil || manifest.FormatVersion != wire.ManifestVersion {
		return wire.Manifest{}, fmt.Errorf("the manifest must be JSON of formatVersion %d, got something else", wire.ManifestVersion)
	}
	dump, err := os.Open(dumpFile)
	if err != nil {
		return wire.Manifest{}, argumentError{fmt.Errorf("-dump must be a readable file, got %q", dumpFile)}
	}
	defer dump.Close()
	hash := sha256.New()
	sizeBytes, err := io.Copy(hash, dump)
	if err != nil {
		return wire.Manifest{}, err
	}
	if sum := hex.EncodeToString(hash.Sum(nil)); sum != manifest.SHA256 || sizeBytes != manifest.SizeBytes {
		return wire.Manifest{}, fmt.Errorf("the dump must have the size %d and sha256 %s of its manifest, got %d and %s",
			manifest.SizeBytes, manifest.SHA256, sizeBytes, sum)
	}
	if _, err := dump.Seek(0, io.SeekStart); err != nil {
		return wire.Manifest{}, err
	}
	return manifest, write(dump, archiveFile, func(sealed io.Reader, archive io.Writer) error {
		return seal.Open(sealed, identities, archive)
	})
}

func write(dump io.Reader, archiveFile string, open func(io.Reader, io.Writer) error) error {
	unfinished, err := os.CreateTemp(filepath.Dir(archiveFile), ".restoring-")
	if err != nil {
		return argumentError{fmt.Errorf("-archive must be in a folder that can be written to, got %q", archiveFile)}
	}
	defer os.Remove(unfinished.Name())
	err = open(dump, unfinished)
	if err == nil {
		err = unfinished.Sync()
	}
	if err := errors.Join(err, unfinished.Close()); err != nil {
		return err
	}
	// A link, unlike a rename, fails where the name exists.
	return os.Link(unfinished.Name(), archiveFile)
}
