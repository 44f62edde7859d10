// Command receive is the forced command of a tenant's backup key on the store:
//
//	command="/usr/local/bin/receive -root /srv/backups -tenant acme",restrict ssh-ed25519 AAAA…
//
// It takes one dump of that tenant in (see package wire) and answers "stored <sha256>". Exit codes: 0
// stored, 2 refused, 1 the store's own trouble. What it says on standard error is one sentence.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"syscall"
	"time"

	"fluxbilling/embedded/images/backup/internal/receiver"
	"fluxbilling/embedded/images/backup/internal/wire"
)

const (
	defaultMaxBytes = 32 << 30
	idleTimeout     = 2 * time.Minute
)

func main() {
	root := flag.String("root", "", "folder of the store")
	tenant := flag.String("tenant", "", "the tenant that the key belongs to")
	maxBytes := flag.Int64("max-bytes", defaultMaxBytes, "largest dump in bytes")
	flag.Parse()

	// The standard input as a poller knows it: only then does closing it end a read that waits.
	stdin := os.Stdin
	if err := syscall.SetNonblock(syscall.Stdin, true); err == nil {
		stdin = os.NewFile(uintptr(syscall.Stdin), "stdin")
	}
	sum, err := receiver.Receive(receiver.Request{
		Root:        *root,
		Tenant:      *tenant,
		Command:     os.Getenv("SSH_ORIGINAL_COMMAND"),
		MaxBytes:    *maxBytes,
		IdleTimeout: idleTimeout,
		Now:         time.Now,
	}, stdin)
	if err == nil {
		fmt.Printf("stored %s\n", sum)
		return
	}
	fmt.Fprintf(os.Stderr, "Store: %s.\n", err)
	var refusal *wire.Refusal
	if errors.As(err, &refusal) {
		os.Exit(2)
	}
	os.Exit(1)
}
