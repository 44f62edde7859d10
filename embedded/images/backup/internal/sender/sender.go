// Package sender dumps one tenant's database and streams it to the backup store; nothing touches a disk here.
package sender

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"fluxbilling/embedded/images/backup/internal/archive"
	"fluxbilling/embedded/images/backup/internal/wire"
)

const (
	connectTimeout = 20 * time.Second
	answerTimeout  = 2 * time.Minute
)

// Run makes one backup and returns the manifest of what the store has safe.
//
// The store is asked first, so that a refusal costs the database nothing. The manifest goes out only
// after pg_dump ended well; whatever fails before leaves nothing that counts.
func Run(ctx context.Context, settings Settings) (wire.Manifest, error) {
	startedAt := time.Now().UTC().Truncate(time.Second)
	var random [4]byte
	rand.Read(random[:])
	file := wire.FileName(startedAt, random)

	client, err := connect(ctx, settings)
	if err != nil {
		return wire.Manifest{}, err
	}
	defer client.Close()
	stop := context.AfterFunc(ctx, func() { client.Close() })
	defer stop()
	transfer, err := openTransfer(client, settings, file)
	if err != nil {
		return wire.Manifest{}, err
	}

	frames := wire.NewWriter(transfer.input)
	compressor := gzip.NewWriter(frames)
	head := &archive.Head{}
	source := &counter{}
	// The store's end of the pipe breaking must end pg_dump, and it is the store's reason that is told.
	dumping, endDump := context.WithCancel(ctx)
	defer endDump()
	sink := &failingWriter{to: compressor, onFailure: endDump}
	err = dump(dumping, settings, io.MultiWriter(head, source, sink))
	switch {
	case ctx.Err() != nil:
		return wire.Manifest{}, fail(KindDefect, "the dump must run to its end, got a signal to stop; the next run starts anew")
	case sink.failed != nil:
		return wire.Manifest{}, transfer.failure(sink.failed)
	case err != nil:
		return wire.Manifest{}, err
	}
	if err := compressor.Close(); err != nil {
		return wire.Manifest{}, transfer.failure(err)
	}
	versions, err := head.Versions()
	if err != nil {
		return wire.Manifest{}, fail(KindDatabase, "database %q: %w; check PG_DUMP", settings.DatabaseName, err)
	}
	sum, sizeBytes := frames.Sum()
	manifest := wire.Manifest{
		FormatVersion:         wire.ManifestVersion,
		Tenant:                settings.Tenant,
		Database:              settings.DatabaseName,
		File:                  file,
		SHA256:                sum,
		SizeBytes:             sizeBytes,
		UncompressedSizeBytes: source.bytes,
		ServerVersion:         versions.Server,
		PgDumpVersion:         versions.PgDump,
		StartedAt:             startedAt,
		FinishedAt:            time.Now().UTC().Truncate(time.Second),
	}
	if err := frames.Finish(manifest); err != nil {
		return wire.Manifest{}, transfer.failure(err)
	}
	if err := transfer.confirm(sum); err != nil {
		return wire.Manifest{}, err
	}
	return manifest, nil
}

// connect opens SSH to the store, which must show the pinned host key.
func connect(ctx context.Context, settings Settings) (*ssh.Client, error) {
	address := net.JoinHostPort(settings.StoreHost, settings.StorePort)
	dialer := net.Dialer{Timeout: connectTimeout}
	connection, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fail(KindStore, "store %q: must answer, got %q; check STORE_HOST, STORE_PORT and the network policy", address, err)
	}
	stranger := ""
	pinned := settings.storeHostKey.Marshal()
	handshakeDeadline := time.Now().Add(connectTimeout)
	connection.SetDeadline(handshakeDeadline)
	channel, channels, requests, err := ssh.NewClientConn(connection, address, &ssh.ClientConfig{
		User:              settings.StoreUser,
		Auth:              []ssh.AuthMethod{ssh.PublicKeys(settings.storeKey)},
		HostKeyAlgorithms: hostKeyAlgorithms(settings.storeHostKey),
		HostKeyCallback: func(_ string, _ net.Addr, shown ssh.PublicKey) error {
			if !bytes.Equal(shown.Marshal(), pinned) {
				stranger = ssh.FingerprintSHA256(shown)
				return errors.New("not the pinned host key")
			}
			return nil
		},
	})
	if err != nil {
		connection.Close()
		if stranger != "" {
			return nil, fail(KindStore, "store %q: must show the pinned host key %s, got %s; if the store was made anew, pin its new key in STORE_HOST_KEY",
				address, ssh.FingerprintSHA256(settings.storeHostKey), stranger)
		}
		return nil, fail(KindStore, "store %q: must take this key for user %q, got %q; check the key's line in authorized_keys, and STORE_HOST_KEY",
			address, settings.StoreUser, err)
	}
	connection.SetDeadline(time.Time{})
	return ssh.NewClient(channel, channels, requests), nil
}

func hostKeyAlgorithms(key ssh.PublicKey) []string {
	if key.Type() == ssh.KeyAlgoRSA {
		return []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
	}
	return []string{key.Type()}
}

// transfer is one running "receive" on the store.
type transfer struct {
	settings  Settings
	input     io.WriteCloser
	answer    lastBytes
	complaint lastBytes
	// ended is closed once result is what the receiver ended with: a session's end can be waited for only once.
	ended  chan struct{}
	result error
}

func openTransfer(client *ssh.Client, settings Settings, file string) (*transfer, error) {
	session, err := client.NewSession()
	if err != nil {
		return nil, fail(KindStore, "store %q: must open a session, got %q; look at the store's sshd log", settings.StoreHost, err)
	}
	opened := &transfer{settings: settings, ended: make(chan struct{})}
	session.Stdout = &opened.answer
	session.Stderr = &opened.complaint
	if opened.input, err = session.StdinPipe(); err != nil {
		return nil, err
	}
	if err := session.Start(wire.Command(settings.Tenant, file)); err != nil {
		return nil, fail(KindStore, "store %q: must run the receiver, got %q; check the forced command of the key", settings.StoreHost, err)
	}
	go func() {
		opened.result = session.Wait()
		close(opened.ended)
	}()
	return opened, nil
}

// failure is what a broken transfer means: the store's own words where it left any.
func (t *transfer) failure(broken error) error {
	t.input.Close()
	if t.wait() != nil && t.hasEnded() && len(t.complaint.bytes) > 0 {
		return fail(KindRefused, "store %q: must take the dump, got %q", t.settings.StoreHost, t.complaint.lastLine())
	}
	return fail(KindStore, "store %q: must stay connected, got %q; the next run starts anew", t.settings.StoreHost, broken)
}

// confirm waits for the store's word that it has the dump with this hash safe.
func (t *transfer) confirm(sum string) error {
	if err := t.input.Close(); err != nil {
		return t.failure(err)
	}
	if err := t.wait(); err != nil {
		return t.failure(err)
	}
	if got := strings.TrimSpace(string(t.answer.bytes)); got != "stored "+sum {
		return fail(KindRefused, "store %q: must confirm %q, got %.100q; check the forced command of the key", t.settings.StoreHost, "stored "+sum, got)
	}
	return nil
}

func (t *transfer) wait() error {
	select {
	case <-t.ended:
		return t.result
	case <-time.After(answerTimeout):
		return fmt.Errorf("no answer within %s", answerTimeout)
	}
}

func (t *transfer) hasEnded() bool {
	select {
	case <-t.ended:
		return true
	default:
		return false
	}
}

type counter struct{ bytes int64 }

func (c *counter) Write(data []byte) (int, error) {
	c.bytes += int64(len(data))
	return len(data), nil
}

// failingWriter remembers its first failure and tells about it.
type failingWriter struct {
	to        io.Writer
	onFailure func()
	failed    error
}

func (f *failingWriter) Write(data []byte) (int, error) {
	written, err := f.to.Write(data)
	if err != nil && f.failed == nil {
		f.failed = err
		f.onFailure()
	}
	return written, err
}
