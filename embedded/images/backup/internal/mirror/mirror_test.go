package mirror

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fluxbilling/embedded/images/backup/internal/client"
	"fluxbilling/embedded/images/backup/internal/seal"
	"fluxbilling/embedded/images/backup/internal/sshtest"
	"fluxbilling/embedded/images/backup/internal/store"
	"fluxbilling/embedded/images/backup/internal/wire"
)

var now = time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)

// side is a store behind an SSH server in this process.
type side struct {
	sshtest.Server
	root string
	now  time.Time
}

func serve(t *testing.T, kind store.Side) *side {
	t.Helper()
	served := &side{root: t.TempDir(), now: now}
	served.Server = sshtest.Serve(t, func(command string, channel io.ReadWriter) error {
		return store.Serve(store.Request{
			Root: served.root, Command: command, MaxBytes: 1 << 20, IdleTimeout: time.Minute,
			Now: func() time.Time { return served.now },
		}, kind, channel, channel)
	})
	return served
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
	environment := source.Environment(t, "SOURCE_")
	maps.Copy(environment, target.Environment(t, "TARGET_"))
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
