package images

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"fluxbilling/embedded/images/backup/internal/client"
)

const layers = repositories + "/fleet/platform/_layers/sha256/"

// fleet is a registry with three images in two repositories and with what no mirror carries.
func fleet(t *testing.T) (source registry, carried map[string]string) {
	t.Helper()
	source = newRegistry(t)
	base := strings.Repeat("base layer ", 30_000)
	source.push("fleet/platform", "v1", base, "platform 1")
	source.push("fleet/platform", "v2.0-rc_1", base, "platform 2")
	source.push("postgres", "17", base, strings.Repeat("p", maxLinkBytes+1))
	carried = source.files()
	source.write(repositories+"/postgres/_uploads/6b3c/data", "half an upload")
	source.write(repositories+"/postgres/_uploads/6b3c/startedat", "2026-01-02T03:04:05Z")
	source.write(repositories+"/postgres/_manifests/tags/17/current/link.0b7e.tmp", "sha")
	source.write("docker/registry/v2/scheduler-state.json", "{}")
	return source, carried
}

func TestRunCopiesAWholeRegistryOnce(t *testing.T) {
	source, carried := fleet(t)
	target := newStandby(t)
	want := Report{Copied: len(carried)}
	for name, content := range carried {
		want.Bytes += int64(len(content))
		if rank, _ := rankOf(name); rank == blob {
			want.Held++
		}
	}
	if got := mustRun(t, source, target); got != want || want.Held != 10 {
		t.Fatalf("got %+v, want %+v", got, want)
	}
	if !maps.Equal(target.files(), carried) {
		t.Fatalf("got %v", slices.Sorted(maps.Keys(target.files())))
	}
	fs.WalkDir(os.DirFS(target.root), "docker", func(name string, entry fs.DirEntry, err error) error {
		facts, _ := entry.Info()
		if want := map[bool]fs.FileMode{true: 0o750, false: 0o640}[entry.IsDir()]; facts.Mode().Perm() != want {
			t.Fatalf("%s: got %s", name, facts.Mode())
		}
		return err
	})
	if got := mustRun(t, source, target); got != (Report{Held: want.Held}) || target.takes.Load() != 1 {
		t.Fatalf("the second time: got %+v, %d takes", got, target.takes.Load())
	}
}

func TestRunOfAnEmptyRegistryCopiesNothing(t *testing.T) {
	target := newStandby(t)
	if got := mustRun(t, newRegistry(t), target); got != (Report{}) || target.takes.Load() != 0 {
		t.Fatalf("got %+v", got)
	}
}

func TestRunFollowsATag(t *testing.T) {
	source, _ := fleet(t)
	target := newStandby(t)
	mustRun(t, source, target)
	const current = repositories + "/fleet/platform/_manifests/tags/v1/current/link"
	older := target.read(current)
	newer := source.push("fleet/platform", "v1", "platform 1 again")
	// New are config, layer and manifest, each with its link, the tag's index, and the tag itself.
	if got := mustRun(t, source, target); got.Copied != 8 || got.Held != 13 || target.read(current) != newer {
		t.Fatalf("got %+v, %s", got, target.read(current))
	}
	// Back to an image that is there: the tag alone.
	source.write(current, older)
	if got := mustRun(t, source, target); got.Copied != 1 || target.read(current) != older {
		t.Fatalf("got %+v, %s", got, target.read(current))
	}
}

func TestRunTakesNothingFromTheTarget(t *testing.T) {
	source, carried := fleet(t)
	target := newStandby(t)
	mustRun(t, source, target)
	if err := os.RemoveAll(source.path("docker")); err != nil {
		t.Fatal(err)
	}
	if got := mustRun(t, source, target); got != (Report{}) || !maps.Equal(target.files(), carried) {
		t.Fatalf("got %+v", got)
	}
}

func TestRunLeavesLinksThatLeadNowhere(t *testing.T) {
	source, carried := fleet(t)
	target := newStandby(t)
	source.write(repositories+"/fleet/platform/_manifests/tags/v1/current/link", "")
	source.write(layers+strings.Repeat("0", 64)+"/link", digestPrefix+strings.Repeat("0", 64))
	if got := mustRun(t, source, target); got.Left != 2 || got.Copied != len(carried)-1 {
		t.Fatalf("got %+v", got)
	}
}

func TestRunRefusesASpoiltBlob(t *testing.T) {
	source, _ := fleet(t)
	target := newStandby(t)
	digest := digestPrefix + hashOf([]byte("platform 1"))
	source.write(blobPath(digest), "platform X")
	_, err := run(t, source, target)
	var failure *client.Failure
	if !errors.As(err, &failure) || failure.Kind != client.KindRefused || !strings.Contains(err.Error(), "must have the digest in its path") {
		t.Fatalf("got %v", err)
	}
	target.mustBeWhole()
	target.mustHoldNothingUnfinished()
	if _, err := os.Stat(target.path(blobPath(digest))); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("got %v", err)
	}
	source.write(blobPath(digest), "platform 1")
	mustRun(t, source, target)
}

func TestRunStopsAtABlobOfAnotherSize(t *testing.T) {
	source, _ := fleet(t)
	target := newStandby(t)
	mustRun(t, source, target)
	target.write(blobPath(digestPrefix+hashOf([]byte("platform 1"))), "cut")
	if _, err := run(t, source, target); err == nil || !strings.Contains(err.Error(), "must have the 3 bytes that it has here, got 10") {
		t.Fatalf("got %v", err)
	}
}

func TestABlobThatVanishesOrShrinksFailsTheRun(t *testing.T) {
	source := newRegistry(t)
	digest := source.put("content")
	root, err := os.OpenRoot(source.root)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for _, name := range []string{blobPath(digest), blobPath(digestPrefix + strings.Repeat("0", 64))} {
		err := sendBlob(root, name, int64(len("content")+1), tar.NewWriter(io.Discard))
		var failure *client.Failure
		if !errors.As(err, &failure) || failure.Kind != client.KindStore || !strings.Contains(err.Error(), "must stay as it is while it is carried") {
			t.Fatalf("got %v", err)
		}
	}
}

// recorded runs once and answers what was sent.
func recorded(t *testing.T, source registry) []byte {
	t.Helper()
	target := newStandby(t)
	var sent bytes.Buffer
	target.bring = func(stream io.Reader) (io.Reader, bool) { return io.TeeReader(stream, &sent), true }
	mustRun(t, source, target)
	return sent.Bytes()
}

func TestNothingIsSentBeforeWhatItLeadsTo(t *testing.T) {
	source, carried := fleet(t)
	files := tar.NewReader(bytes.NewReader(recorded(t, source)))
	var sent []rank
	for {
		header, err := files.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		rank, _ := rankOf(header.Name)
		sent = append(sent, rank)
	}
	if len(sent) != len(carried) || !slices.IsSorted(sent) || sent[0] != blob || sent[len(sent)-1] != tag {
		t.Fatalf("got %v", sent)
	}
}

func TestACutRunLeavesAWholeRegistryAndTheNextCompletesIt(t *testing.T) {
	source := newRegistry(t)
	source.push("fleet/platform", "v1", strings.Repeat("base layer ", 500), "platform 1")
	source.push("fleet/platform", "v2", "platform 2")
	carried := source.files()
	length := len(recorded(t, source))
	// Blocks are of 512 bytes: cuts in headers, in content and in padding, between files, and in the tar's end.
	cuts := []int{512, 1024, length - 1024, length - 512, length - 1}
	for at := 0; at < length; at += 2500 {
		cuts = append(cuts, at)
	}
	for _, at := range cuts {
		target := newStandby(t)
		target.bring = func(stream io.Reader) (io.Reader, bool) { return io.LimitReader(stream, int64(at)), false }
		if _, err := run(t, source, target); err == nil {
			t.Fatalf("cut at %d of %d: got no error", at, length)
		}
		target.mustBeWhole()
		target.mustHoldNothingUnfinished()
		target.bring = nil
		mustRun(t, source, target)
		if !maps.Equal(target.files(), carried) {
			t.Fatalf("cut at %d: got %v", at, slices.Sorted(maps.Keys(target.files())))
		}
	}
}

func TestRunsWhileImagesArePushedAndDeletedKeepTheTargetWhole(t *testing.T) {
	source := newRegistry(t)
	target := newStandby(t)
	var pushing sync.WaitGroup
	var done atomic.Bool
	pushing.Go(func() {
		for round := range 20 {
			content := strings.Repeat("layer of round ", 20+round)
			source.push("fleet/platform", "latest", content, content+"2")
			source.push("fleet/tools", string(rune('a'+round%26)), content)
			os.RemoveAll(source.path(repositories + "/fleet/tools/_manifests/tags/" + string(rune('a'+(round+13)%26))))
		}
		done.Store(true)
	})
	defer pushing.Wait()
	for !done.Load() {
		mustRun(t, source, target)
	}
	mustRun(t, source, target)
	held := target.files()
	for name, content := range source.files() {
		if held[name] != content {
			t.Fatalf("%s differs", name)
		}
	}
}

func TestTwoRunsAtOnceDoNoHarm(t *testing.T) {
	source, carried := fleet(t)
	target := newStandby(t)
	read, err := settings(t, source.root, target)
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	for range 3 {
		running.Go(func() {
			if _, err := Run(t.Context(), read); err != nil && !strings.Contains(err.Error(), "must be the only one on this folder") {
				t.Errorf("got %v", err)
			}
		})
	}
	running.Wait()
	mustRun(t, source, target)
	if !maps.Equal(target.files(), carried) {
		t.Fatalf("got %v", slices.Sorted(maps.Keys(target.files())))
	}
}

func TestSettings(t *testing.T) {
	target := newStandby(t)
	if _, err := settings(t, "", target); err == nil || err.Error() != `setting "IMAGES_PATH": must be one line of text, got ""; set it in the CronJob` || client.ExitCode(err) != 2 {
		t.Fatalf("got %v", err)
	}
	_, err := run(t, registry{t, "/nowhere"}, target)
	if err == nil || err.Error() != `setting "IMAGES_PATH": must name the registry's folder, got "/nowhere"; mount its volume there` || client.ExitCode(err) != 2 {
		t.Fatalf("got %v", err)
	}
}
