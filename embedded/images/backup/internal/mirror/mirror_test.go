package mirror

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"fluxbilling/embedded/images/backup/internal/client"
	"fluxbilling/embedded/images/backup/internal/seal"
	"fluxbilling/embedded/images/backup/internal/store"
	"fluxbilling/embedded/images/backup/internal/wire"
)

var now = time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)

// side is a store behind an SSH server in this process.
type side struct {
	root    string
	address string
	hostKey string
	now     time.Time
}

func serve(t *testing.T, kind store.Side) *side {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	config := &ssh.ServerConfig{PublicKeyCallback: func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, nil }}
	config.AddHostKey(signer)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := &side{root: t.TempDir(), address: listener.Addr().String(), hostKey: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey()))), now: now}
	// After TempDir, so that it runs before the folder goes: a store that was cut off still clears up in it.
	var talking sync.WaitGroup
	t.Cleanup(func() {
		listener.Close()
		talking.Wait()
	})
	talking.Go(func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			talking.Go(func() { served.talk(connection, config, kind) })
		}
	})
	return served
}

func (s *side) talk(connection net.Conn, config *ssh.ServerConfig, kind store.Side) {
	_, channels, requests, err := ssh.NewServerConn(connection, config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	var commands sync.WaitGroup
	defer commands.Wait()
	for offered := range channels {
		channel, asked, err := offered.Accept()
		if err != nil {
			return
		}
		commands.Go(func() {
			for request := range asked {
				request.Reply(request.Type == "exec", nil)
				if request.Type != "exec" {
					continue
				}
				err := store.Serve(store.Request{
					Root: s.root, Command: string(request.Payload[4:]), MaxBytes: 1 << 20, IdleTimeout: time.Minute,
					Now: func() time.Time { return s.now },
				}, kind, channel, channel)
				status := []byte{0, 0, 0, 0}
				if err != nil {
					fmt.Fprintf(channel.Stderr(), "Store: %s.\n", err)
					status[3] = 1
				}
				channel.SendRequest("exit-status", false, status)
				channel.Close()
			}
		})
	}
}

// hold puts a dump of a tenant into a store and answers its path below the root.
func (s *side) hold(t *testing.T, tenant, content string) string {
	t.Helper()
	name := wire.FileName(s.now, [4]byte{1})
	var stream bytes.Buffer
	frames := wire.NewWriter(&stream)
	io.WriteString(frames, seal.Magic+content)
	sum, size := frames.Sum()
	frames.Finish(wire.Manifest{FormatVersion: wire.ManifestVersion, Tenant: tenant, File: name, SHA256: sum, SizeBytes: size, Recipients: []string{"age1"}})
	if _, err := store.Receive(store.Request{
		Root: s.root, Tenant: tenant, Command: wire.Command(tenant, name), KeepDays: store.LeastKeepDays, MaxBytes: 1 << 20, IdleTimeout: time.Minute,
		Now: func() time.Time { return s.now },
	}, &stream); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(tenant, name)
}

func run(t *testing.T, source, target *side) (Report, error) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	environment := map[string]string{}
	for prefix, store := range map[string]*side{"SOURCE_": source, "TARGET_": target} {
		host, port, _ := net.SplitHostPort(store.address)
		environment[prefix+"HOST"], environment[prefix+"PORT"] = host, port
		environment[prefix+"HOST_KEY"], environment[prefix+"KEY_FILE"] = store.hostKey, key
	}
	settings, err := ReadSettings(func(name string) (string, bool) { value, ok := environment[name]; return value, ok })
	if err != nil {
		t.Fatal(err)
	}
	return Run(context.Background(), settings)
}

func content(t *testing.T, root, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestRunMakesTheTargetHoldWhatTheSourceHolds(t *testing.T) {
	source, target := serve(t, store.Source), serve(t, store.Target)
	paths := []string{source.hold(t, "acme", strings.Repeat("a", 100_000)), source.hold(t, "other", "o")}
	target.now = now.Add(time.Hour)
	if got, err := run(t, source, target); err != nil || got != (Report{Held: 2, Copied: 2}) {
		t.Fatalf("got %+v, %v", got, err)
	}
	for _, path := range paths {
		// The manifest too, with the source's own word on when it came.
		for _, name := range []string{path, wire.ManifestName(path)} {
			if content(t, source.root, name) != content(t, target.root, name) {
				t.Fatalf("%s differs", name)
			}
		}
	}
	if got, err := run(t, source, target); err != nil || got != (Report{Held: 2}) {
		t.Fatalf("the second time: got %+v, %v", got, err)
	}
}

func TestRunTakesNothingFromTheTarget(t *testing.T) {
	source, target := serve(t, store.Source), serve(t, store.Target)
	path := source.hold(t, "acme", "a")
	if _, err := run(t, source, target); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(source.root, "acme")); err != nil {
		t.Fatal(err)
	}
	if got, err := run(t, source, target); err != nil || got != (Report{}) {
		t.Fatalf("got %+v, %v", got, err)
	}
	content(t, target.root, path)
}

func TestRunTellsTheTargetWhoWasForgotten(t *testing.T) {
	source, target := serve(t, store.Source), serve(t, store.Target)
	path := source.hold(t, "acme", "a")
	if err := store.Forget(source.root, "acme", now); err != nil {
		t.Fatal(err)
	}
	if got, err := run(t, source, target); err != nil || got != (Report{Held: 1, Copied: 1, Forgotten: 1}) {
		t.Fatalf("got %+v, %v", got, err)
	}
	if got, err := run(t, source, target); err != nil || got != (Report{Held: 1}) {
		t.Fatalf("the second time: got %+v, %v", got, err)
	}
	content(t, target.root, path)
	source.now, target.now = now.Add(169*time.Hour), now.Add(169*time.Hour)
	if _, err := run(t, source, target); err != nil {
		t.Fatal(err)
	}
	for _, side := range []*side{source, target} {
		if _, err := os.Stat(filepath.Join(side.root, "acme")); !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("got %v", err)
		}
	}
}

func TestRunStopsAtTwoDumpsOfOneName(t *testing.T) {
	source, target := serve(t, store.Source), serve(t, store.Target)
	source.hold(t, "acme", "genuine")
	path := target.hold(t, "acme", "forged")
	_, err := run(t, source, target)
	var failure *client.Failure
	if !errors.As(err, &failure) || failure.Kind != client.KindRefused || !strings.Contains(err.Error(), "must be the same on both stores") {
		t.Fatalf("got %v", err)
	}
	if got := content(t, target.root, path); got != seal.Magic+"forged" {
		t.Fatalf("got %q", got)
	}
}

func TestRunSaysWhatTheSourceSaid(t *testing.T) {
	source, target := serve(t, store.Source), serve(t, store.Target)
	path := filepath.Join(source.root, source.hold(t, "acme", "a"))
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(seal.Magic+"b"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := run(t, source, target); err == nil || !strings.Contains(err.Error(), "must be what its manifest says") {
		t.Fatalf("got %v", err)
	}
	// Whether the target has begun to take it in is a race; what counts there must be nothing.
	var held bytes.Buffer
	err := store.Serve(store.Request{Root: target.root, Command: "list", Now: func() time.Time { return target.now }}, store.Target, nil, &held)
	if err != nil || held.Len() != 0 {
		t.Fatalf("got %q, %v", held.String(), err)
	}
}
