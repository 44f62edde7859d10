// Command receive is the store's end of backups. It is the forced command of a tenant's backup key,
//
//	command="/usr/local/bin/receive -root /srv/backups -keep-days 7 -tenant acme",restrict ssh-ed25519 AAAA…
//
// and takes one dump of that tenant in (see package wire) and answers "stored <sha256>"; after a dump it
// deletes what is kept long enough. With -mirror source or -mirror target it is the forced command of the
// mirror's key (see store.Serve), with -mirror images that of the image registry's mirror (see images.Serve).
// An operator runs it with -prune, or with -forget and a deleted tenant's name, whose dumps are deleted a week
// later. Exit codes: 0 done, 2 a dump's sender refused, 1 the store's own trouble and whatever goes wrong with
// images. What it says on standard error is one sentence.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"fluxbilling/embedded/images/backup/internal/images"
	"fluxbilling/embedded/images/backup/internal/store"
	"fluxbilling/embedded/images/backup/internal/wire"
)

const (
	defaultMaxBytes = 32 << 30
	idleTimeout     = 2 * time.Minute
)

func main() {
	root := flag.String("root", "", "folder of the store")
	tenant := flag.String("tenant", "", "the tenant that the key belongs to")
	mirror := flag.String("mirror", "", "the side of a mirror that the key may serve: source, target or images")
	prune := flag.Bool("prune", false, "delete what is kept long enough")
	forget := flag.String("forget", "", "a deleted tenant, whose dumps go a week from now")
	keepDays := flag.Int("keep-days", 0, "how long the tenant's dumps are kept, at least 7")
	maxBytes := flag.Int64("max-bytes", defaultMaxBytes, "largest dump in bytes")
	flag.Parse()
	request := store.Request{
		Root:        *root,
		Tenant:      *tenant,
		Command:     os.Getenv("SSH_ORIGINAL_COMMAND"),
		KeepDays:    *keepDays,
		MaxBytes:    *maxBytes,
		IdleTimeout: idleTimeout,
		Now:         time.Now,
	}
	if err := run(request, store.Side(*mirror), *prune, *forget); err != nil {
		fmt.Fprintf(os.Stderr, "Store: %s.\n", strings.TrimSuffix(err.Error(), "."))
		var refusal *wire.Refusal
		if errors.As(err, &refusal) {
			os.Exit(2)
		}
		os.Exit(1)
	}
}

func run(request store.Request, side store.Side, prune bool, forget string) error {
	switch {
	case side == store.Source || side == store.Target:
		return store.Serve(request, side, stdin(), os.Stdout)
	case side == images.Side:
		return images.Serve(images.Request{Root: request.Root, Command: request.Command, MaxBytes: images.MaxBytes, IdleTimeout: request.IdleTimeout}, stdin(), os.Stdout)
	case prune:
		return pruned(request)
	case forget != "":
		return store.Forget(request.Root, forget, request.Now())
	}
	sum, err := store.Receive(request, stdin())
	if err != nil {
		return err
	}
	fmt.Printf("stored %s\n", sum)
	// The dump is safe and the sender knows: what goes wrong from here on is the store's trouble, for its log.
	_, err = store.Prune(request.Root, request.Now())
	return err
}

func pruned(request store.Request) error {
	gone, err := store.Prune(request.Root, request.Now())
	for _, name := range gone {
		fmt.Println(name)
	}
	return err
}

// stdin is the standard input as a poller knows it: only then does closing it end a read that waits.
func stdin() *os.File {
	if err := syscall.SetNonblock(syscall.Stdin, true); err != nil {
		return os.Stdin
	}
	return os.NewFile(uintptr(syscall.Stdin), "stdin")
}
