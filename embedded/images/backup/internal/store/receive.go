// Package store is the store's end of backups: what each key may do, and how long dumps are kept.
package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"

	"fluxbilling/embedded/images/backup/internal/idle"
	"fluxbilling/embedded/images/backup/internal/wire"
)

// Unfinished transfers carry this prefix, which no dump's name can have.
const unfinishedPrefix = ".incoming-"

// Request is one transfer as the forced command sees it.
type Request struct {
	// Root is the store's folder; each tenant has one folder below it.
	Root string
	// Tenant is the one that the key belongs to, from the forced command's arguments.
	Tenant string
	// Command is what the sender asked for (SSH_ORIGINAL_COMMAND).
	Command string
	// KeepDays is how long the dump is kept, from the forced command's arguments; at least LeastKeepDays.
	KeepDays int
	// MaxBytes bounds one dump.
	MaxBytes int64
	// Mirrored says that the sender is another store, whose word on when it received the dump and how long it is kept counts.
	Mirrored bool
	// IdleTimeout ends a transfer from which nothing comes.
	IdleTimeout time.Duration
	Now         func() time.Time
}

// Receive takes one dump in and answers its SHA-256 (hex).
//
// The dump is written under a temporary name, synced, verified, then linked to its own name, the
// manifest last: whatever ends the process, a dump that counts is whole. Existing names are never
// overwritten. One transfer of a tenant at a time, so that leftovers of a killed one can be told apart
// and removed.
func Receive(request Request, from io.Reader) (string, error) {
	if !wire.IsTenant(request.Tenant) {
		return "", fmt.Errorf("the forced command's tenant must be a DNS label, got %.80q", request.Tenant)
	}
	if !request.Mirrored && request.KeepDays < LeastKeepDays {
		return "", fmt.Errorf("the forced command's -keep-days must be at least %d, got %d", LeastKeepDays, request.KeepDays)
	}
	tenant, file, err := wire.ParseCommand(request.Command)
	if err != nil {
		return "", err
	}
	if tenant != request.Tenant {
		return "", wire.Refuse("this key must be used for tenant %q, got %q", request.Tenant, tenant)
	}
	folder, unlock, err := openTenant(request.Root, tenant)
	if err != nil {
		return "", err
	}
	defer unlock()

	for _, name := range []string{file, wire.ManifestName(file)} {
		if _, err := folder.Lstat(name); err == nil {
			return "", wire.Refuse("%q must be a new name, got one that the store has already", name)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}

	var manifest wire.Manifest
	unfinished, err := write(folder, file, func(target io.Writer) error {
		watch := idle.NewWatch(request.IdleTimeout, from)
		defer watch.Stop()
		manifest, err = wire.Read(from, target, request.MaxBytes, watch.Alive)
		if err != nil && watch.HasExpired() {
			return wire.Refuse("something must come at least every %s, got nothing", request.IdleTimeout)
		}
		return err
	})
	if err != nil {
		return "", err
	}
	defer folder.Remove(unfinished)
	if manifest.Tenant != tenant || manifest.File != file {
		return "", wire.Refuse("the manifest must be of %q, %q, got %.80q, %.80q", tenant, file, manifest.Tenant, manifest.File)
	}

	if now := request.Now().UTC(); !request.Mirrored || manifest.ReceivedAt == nil {
		manifest.ReceivedAt = &now
	}
	if !request.Mirrored {
		manifest.KeepDays = request.KeepDays
	}
	text, err := json.MarshalIndent(manifest, "", "  ")
	if err != nil {
		return "", err
	}
	unfinishedManifest, err := write(folder, wire.ManifestName(file), func(target io.Writer) error {
		_, err := target.Write(append(text, '\n'))
		return err
	})
	if err != nil {
		return "", err
	}
	defer folder.Remove(unfinishedManifest)

	// A link, unlike a rename, fails where the name exists.
	if err := folder.Link(unfinished, file); err != nil {
		return "", err
	}
	if err := folder.Link(unfinishedManifest, wire.ManifestName(file)); err != nil {
		return "", err
	}
	// Whoever sends dumps lives.
	if err := folder.Remove(forgottenName); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	return manifest.SHA256, sync(folder)
}

// errBusy means that a dump of the tenant is coming in.
var errBusy = errors.New("the tenant's folder is in use")

// openTenant makes, opens and locks the tenant's folder and clears what a killed transfer left in it.
func openTenant(root, tenant string) (*os.Root, func(), error) {
	store, err := os.OpenRoot(root)
	if err != nil {
		return nil, nil, err
	}
	defer store.Close()
	if err := store.Mkdir(tenant, 0o700); err == nil {
		if err := sync(store); err != nil {
			return nil, nil, err
		}
	} else if !errors.Is(err, fs.ErrExist) {
		return nil, nil, err
	}
	if facts, err := store.Lstat(tenant); err != nil {
		return nil, nil, err
	} else if !facts.IsDir() {
		return nil, nil, fmt.Errorf("the store's %q must be a folder, got %s", tenant, facts.Mode().Type())
	}
	folder, unlock, err := lockTenant(store, tenant)
	if errors.Is(err, errBusy) {
		return nil, nil, wire.Refuse("tenant %q must send one dump at a time, got a second one", tenant)
	}
	return folder, unlock, err
}

// lockTenant does so for a folder that exists.
func lockTenant(store *os.Root, tenant string) (*os.Root, func(), error) {
	folder, err := store.OpenRoot(tenant)
	if err != nil {
		return nil, nil, err
	}
	lock, err := folder.Open(".")
	if err != nil {
		folder.Close()
		return nil, nil, err
	}
	unlock := func() {
		lock.Close()
		folder.Close()
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		unlock()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, nil, errBusy
		}
		return nil, nil, err
	}
	entries, err := lock.ReadDir(-1)
	if err == nil {
		for _, entry := range entries {
			if strings.HasPrefix(entry.Name(), unfinishedPrefix) {
				err = errors.Join(err, folder.Remove(entry.Name()))
			}
		}
	}
	if err != nil {
		unlock()
		return nil, nil, err
	}
	return folder, unlock, nil
}

// write makes a synced file under a temporary name, which it returns; nothing stays when it fails.
func write(folder *os.Root, name string, fill func(io.Writer) error) (unfinished string, err error) {
	unfinished = unfinishedPrefix + name
	file, err := folder.OpenFile(unfinished, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o400)
	if err != nil {
		return "", err
	}
	err = fill(file)
	if err == nil {
		err = file.Sync()
	}
	err = errors.Join(err, file.Close())
	if err != nil {
		return "", errors.Join(err, folder.Remove(unfinished))
	}
	return unfinished, nil
}

func sync(folder *os.Root) error {
	handle, err := folder.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(handle.Sync(), handle.Close())
}
