package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"fluxbilling/embedded/images/backup/internal/wire"
)

// LeastKeepDays is how long every dump is kept after the first store received it, whatever a plan says, and how long
// those of a deleted tenant are.
const LeastKeepDays = 7

func days(number int) time.Duration { return time.Duration(number) * 24 * time.Hour }

// forgottenName is a file in the folder of a tenant that was deleted; it holds the time of that.
const forgottenName = ".forgotten"

// held is a dump that counts: it lies beside its manifest.
type held struct {
	file       string
	sha256     string
	receivedAt time.Time
	keepDays   int
}

// Prune deletes what is kept long enough, and answers the names of the dumps that are gone, "acme/2026….dump.gz.age".
//
// A tenant's newest dump stays, however old it is, until the tenant was forgotten a week ago: then the
// whole folder goes. A tenant whose dump is coming in is left to the next time.
func Prune(root string, now time.Time) ([]string, error) {
	store, err := os.OpenRoot(root)
	if err != nil {
		return nil, err
	}
	defer store.Close()
	tenants, err := tenantsOf(store)
	if err != nil {
		return nil, err
	}
	pruned := []string{}
	for _, tenant := range tenants {
		gone, err := pruneTenant(store, tenant, now)
		if err != nil && !errors.Is(err, errBusy) {
			return pruned, fmt.Errorf("tenant %q: %w", tenant, err)
		}
		for _, file := range gone {
			pruned = append(pruned, tenant+"/"+file)
		}
	}
	return pruned, nil
}

func pruneTenant(store *os.Root, tenant string, now time.Time) ([]string, error) {
	folder, unlock, err := lockTenant(store, tenant)
	if err != nil {
		return nil, err
	}
	defer unlock()
	dumps, err := dumpsOf(folder)
	if err != nil {
		return nil, err
	}
	forgottenAt, isForgotten, err := forgotten(folder)
	if err != nil {
		return nil, err
	}
	isOver := isForgotten && now.Sub(forgottenAt) > days(LeastKeepDays)
	gone := []string{}
	for place, dump := range dumps {
		if !isOver && (place == 0 || now.Sub(dump.receivedAt) <= days(dump.keepDays)) {
			continue
		}
		// The manifest first: a dump without one does not count.
		for _, name := range []string{wire.ManifestName(dump.file), dump.file} {
			if err := folder.Remove(name); err != nil {
				return gone, err
			}
		}
		gone = append(gone, dump.file)
	}
	if isOver {
		if err := store.RemoveAll(tenant); err != nil {
			return gone, err
		}
		return gone, sync(store)
	}
	return gone, sync(folder)
}

// Forget notes that a tenant was deleted: Prune deletes its dumps a week after at. A dump that comes in
// later makes the note void.
func Forget(root, tenant string, at time.Time) error {
	store, err := os.OpenRoot(root)
	if err != nil {
		return err
	}
	defer store.Close()
	folder, unlock, err := lockTenant(store, tenant)
	if errors.Is(err, fs.ErrNotExist) {
		return wire.Refuse("the store must hold dumps of tenant %q, got none", tenant)
	}
	if errors.Is(err, errBusy) {
		return wire.Refuse("tenant %q must not be sending a dump, got one that comes in", tenant)
	}
	if err != nil {
		return err
	}
	defer unlock()
	if _, is, err := forgotten(folder); is || err != nil {
		return err
	}
	unfinished, err := write(folder, forgottenName, func(target io.Writer) error {
		_, err := target.Write([]byte(at.UTC().Format(time.RFC3339) + "\n"))
		return err
	})
	if err != nil {
		return err
	}
	if err := folder.Rename(unfinished, forgottenName); err != nil {
		return err
	}
	return sync(folder)
}

func forgotten(folder *os.Root) (time.Time, bool, error) {
	text, err := folder.ReadFile(forgottenName)
	if errors.Is(err, fs.ErrNotExist) {
		return time.Time{}, false, nil
	}
	if err != nil {
		return time.Time{}, false, err
	}
	at, err := time.Parse(time.RFC3339, strings.TrimSpace(string(text)))
	if err != nil {
		return time.Time{}, false, fmt.Errorf("%s must hold a time, got %.40q", forgottenName, text)
	}
	return at, true, nil
}

func tenantsOf(store *os.Root) ([]string, error) {
	entries, err := fs.ReadDir(store.FS(), ".")
	if err != nil {
		return nil, err
	}
	tenants := []string{}
	for _, entry := range entries {
		if entry.IsDir() && wire.IsTenant(entry.Name()) {
			tenants = append(tenants, entry.Name())
		}
	}
	return tenants, nil
}

// dumpsOf are the dumps that count, newest first.
func dumpsOf(folder *os.Root) ([]held, error) {
	entries, err := fs.ReadDir(folder.FS(), ".")
	if err != nil {
		return nil, err
	}
	dumps := []held{}
	for _, entry := range entries {
		if !wire.IsFileName(entry.Name()) {
			continue
		}
		manifest, err := manifestOf(folder, entry.Name())
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		dumps = append(dumps, held{entry.Name(), manifest.SHA256, *manifest.ReceivedAt, max(manifest.KeepDays, LeastKeepDays)})
	}
	slices.SortFunc(dumps, func(one, other held) int { return other.receivedAt.Compare(one.receivedAt) })
	return dumps, nil
}

func manifestOf(folder *os.Root, file string) (wire.Manifest, error) {
	name := wire.ManifestName(file)
	text, err := folder.ReadFile(name)
	if err != nil {
		return wire.Manifest{}, err
	}
	var manifest wire.Manifest
	if err := json.Unmarshal(text, &manifest); err != nil || manifest.ReceivedAt == nil {
		return wire.Manifest{}, fmt.Errorf("%s must be a manifest with receivedAt, got something else", name)
	}
	return manifest, nil
}
