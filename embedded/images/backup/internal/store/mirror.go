package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"fluxbilling/embedded/images/backup/internal/wire"
)

// Side is what a mirror's key may do on a store: read the one, add to the other.
type Side string

const (
	Source Side = "source"
	Target Side = "target"
)

// Serve runs one command of a mirror, and writes its answer to answer.
//
//	list                      both: a line "<tenant> <file> <sha256>" for each dump, "<tenant> forgotten <time>" for each forgotten tenant
//	prune                     both: deletes what is kept long enough, a line "<tenant>/<file>" for each dump that is gone
//	send <tenant> <file>      source: the dump as package wire has it
//	receive <tenant> <file>   target: takes one in, "stored <sha256>"
//	forget <tenant> <time>    target: notes what the source noted
func Serve(request Request, side Side, from io.Reader, answer io.Writer) error {
	words := strings.Split(request.Command, " ")
	is := func(verb string, on ...Side) bool {
		for _, allowed := range on {
			if allowed == side && words[0] == verb {
				return true
			}
		}
		return false
	}
	switch {
	case is("list", Source, Target) && len(words) == 1:
		return list(request.Root, answer)
	case is("prune", Source, Target) && len(words) == 1:
		gone, err := Prune(request.Root, request.Now())
		for _, name := range gone {
			fmt.Fprintln(answer, name)
		}
		return err
	case is("send", Source) && len(words) == 3 && wire.IsTenant(words[1]) && wire.IsFileName(words[2]):
		return send(request.Root, words[1], words[2], answer)
	case is("receive", Target) && len(words) == 3:
		request.Tenant, request.Mirrored = words[1], true
		if !wire.IsTenant(request.Tenant) {
			break
		}
		sum, err := Receive(request, from)
		if err == nil {
			_, err = fmt.Fprintf(answer, "stored %s\n", sum)
		}
		return err
	case is("forget", Target) && len(words) == 3 && wire.IsTenant(words[1]):
		at, err := time.Parse(time.RFC3339, words[2])
		if err != nil || at.After(request.Now()) {
			break
		}
		return Forget(request.Root, words[1], at)
	}
	return wire.Refuse("the command must be one of a mirror's %s, got %.80q", side, request.Command)
}

func list(root string, answer io.Writer) error {
	store, err := os.OpenRoot(root)
	if err != nil {
		return err
	}
	defer store.Close()
	tenants, err := tenantsOf(store)
	if err != nil {
		return err
	}
	for _, tenant := range tenants {
		if err := listTenant(store, tenant, answer); err != nil {
			return fmt.Errorf("tenant %q: %w", tenant, err)
		}
	}
	return nil
}

func listTenant(store *os.Root, tenant string, answer io.Writer) error {
	folder, err := store.OpenRoot(tenant)
	if err != nil {
		return err
	}
	defer folder.Close()
	dumps, err := dumpsOf(folder)
	if err != nil {
		return err
	}
	for _, dump := range dumps {
		fmt.Fprintf(answer, "%s %s %s\n", tenant, dump.file, dump.sha256)
	}
	at, is, err := forgotten(folder)
	if is {
		fmt.Fprintf(answer, "%s forgotten %s\n", tenant, at.Format(time.RFC3339))
	}
	return err
}

func send(root, tenant, file string, answer io.Writer) error {
	store, err := os.OpenRoot(root)
	if err != nil {
		return err
	}
	defer store.Close()
	folder, err := store.OpenRoot(tenant)
	if err != nil {
		return err
	}
	defer folder.Close()
	manifest, err := manifestOf(folder, file)
	if err != nil {
		return err
	}
	dump, err := folder.Open(file)
	if err != nil {
		return err
	}
	defer dump.Close()
	frames := wire.NewWriter(answer)
	if _, err := io.Copy(frames, dump); err != nil {
		return err
	}
	// What the disk has now, against what was received then: a rotten dump is not carried on.
	if sum, sizeBytes := frames.Sum(); sum != manifest.SHA256 || sizeBytes != manifest.SizeBytes {
		return errors.New("the dump must be what its manifest says, got other bytes")
	}
	return frames.Finish(manifest)
}
