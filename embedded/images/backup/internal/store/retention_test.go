package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"fluxbilling/embedded/images/backup/internal/wire"
)

var start = time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)

// receive takes a dump of a tenant in, at an hour after start, and answers its name.
func receive(t *testing.T, root, tenant string, hour int) string {
	t.Helper()
	at := start.Add(time.Duration(hour) * time.Hour)
	name := wire.FileName(at, [4]byte{1})
	stream, _ := transfer(t, tenant, tenant, name)
	asking := request(root)
	asking.Tenant, asking.Command = tenant, wire.Command(tenant, name)
	asking.Now = func() time.Time { return at }
	if _, err := Receive(asking, bytes.NewReader(stream)); err != nil {
		t.Fatal(err)
	}
	return tenant + "/" + name
}

func TestPruneKeepsWhatThePlanSaysAndNeverLess(t *testing.T) {
	for keepDays, lastHour := range map[int]int{0: 168, 7: 168, 30: 720} {
		root := t.TempDir()
		first := receive(t, root, "acme", 0)
		receive(t, root, "acme", 24)
		// As a manifest of an older store, or of a forger, would say.
		manifest := filepath.Join(root, wire.ManifestName(first))
		text, err := os.ReadFile(manifest)
		if err != nil {
			t.Fatal(err)
		}
		changed := strings.Replace(string(text), `"keepDays": 7`, fmt.Sprintf(`"keepDays": %d`, keepDays), 1)
		if err := errors.Join(os.Remove(manifest), os.WriteFile(manifest, []byte(changed), 0o400)); err != nil {
			t.Fatal(err)
		}
		if gone := prune(t, root, lastHour); len(gone) != 0 {
			t.Fatalf("%d days, at %d h: got %v", keepDays, lastHour, gone)
		}
		if gone := prune(t, root, lastHour+1); !slices.Equal(gone, []string{first}) {
			t.Fatalf("%d days: got %v", keepDays, gone)
		}
	}
}

func TestReceiveTakesNothingToKeepForLess(t *testing.T) {
	root := t.TempDir()
	asking := request(root)
	asking.KeepDays = 6
	stream, _ := transfer(t, "acme", "acme", wire.FileName(start, [4]byte{1}))
	if _, err := Receive(asking, bytes.NewReader(stream)); err == nil || !strings.Contains(err.Error(), "must be at least 7, got 6") {
		t.Fatalf("got %v", err)
	}
}

func prune(t *testing.T, root string, hour int) []string {
	t.Helper()
	gone, err := Prune(root, start.Add(time.Duration(hour)*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return gone
}

func TestPruneKeepsSevenDays(t *testing.T) {
	root := t.TempDir()
	first := receive(t, root, "acme", 0)
	receive(t, root, "acme", 24)
	for hour, want := range map[int][]string{167: {}, 168: {}, -1000: {}} {
		if gone := prune(t, root, hour); !slices.Equal(gone, want) {
			t.Fatalf("at %d h: got %v", hour, gone)
		}
	}
	if gone := prune(t, root, 169); !slices.Equal(gone, []string{first}) {
		t.Fatalf("got %v", gone)
	}
	if found := names(t, filepath.Join(root, "acme")); len(found) != 2 {
		t.Fatalf("got %v", found)
	}
}

func TestPruneNeverTakesTheLastGoodDump(t *testing.T) {
	root := t.TempDir()
	receive(t, root, "acme", 0)
	last := receive(t, root, "acme", 1)
	// A dump without its manifest does not count, however new.
	folder := filepath.Join(root, "acme")
	if err := os.WriteFile(filepath.Join(folder, wire.FileName(start.AddDate(0, 1, 0), [4]byte{9})), nil, 0o400); err != nil {
		t.Fatal(err)
	}
	prune(t, root, 24*365)
	if _, err := os.Stat(filepath.Join(root, last)); err != nil {
		t.Fatal(err)
	}
	if gone := prune(t, root, 24*366); len(gone) != 0 {
		t.Fatalf("got %v", gone)
	}
}

func TestAForgottenTenantGoesAfterAWeekAndNoneBeside(t *testing.T) {
	root := t.TempDir()
	dump := receive(t, root, "acme", 0)
	receive(t, root, "other", 0)
	if err := Forget(root, "acme", start); err != nil {
		t.Fatal(err)
	}
	// Told again later, the first time counts.
	if err := Forget(root, "acme", start.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if gone := prune(t, root, 168); len(gone) != 0 {
		t.Fatalf("got %v", gone)
	}
	if gone := prune(t, root, 169); !slices.Equal(gone, []string{dump}) {
		t.Fatalf("got %v", gone)
	}
	if found := names(t, root); !slices.Equal(found, []string{"other"}) {
		t.Fatalf("got %v", found)
	}
	if err := Forget(root, "acme", start); !isRefused(err) {
		t.Fatalf("a tenant without dumps: got %v", err)
	}
}

func TestADumpOfAForgottenTenantMakesItLiveAgain(t *testing.T) {
	root := t.TempDir()
	receive(t, root, "acme", 0)
	if err := Forget(root, "acme", start); err != nil {
		t.Fatal(err)
	}
	receive(t, root, "acme", 1)
	prune(t, root, 24*30)
	if found := names(t, filepath.Join(root, "acme")); len(found) != 2 {
		t.Fatalf("got %v", found)
	}
}

func TestServeKeepsASideToItsOwnCommands(t *testing.T) {
	root := t.TempDir()
	name := strings.TrimPrefix(receive(t, root, "acme", 0), "acme/")
	for command, side := range map[string]Side{
		"send acme " + name:                  Target,
		"receive acme " + name:               Source,
		"forget acme 2026-01-02T03:00:00Z":   Source,
		"forget acme 2027-01-02T03:00:00Z":   Target, // later than now
		"forget ../acme 2026-01-02T03:00:00": Target,
		"send ../acme " + name:               Source,
		"send acme ../" + name:               Source,
		"list acme":                          Source,
		"prune now":                          Target,
		"sh":                                 Source,
		"":                                   Target,
	} {
		asking := request(root)
		asking.Command = command
		var answer bytes.Buffer
		if err := Serve(asking, side, strings.NewReader(""), &answer); !isRefused(err) || answer.Len() != 0 {
			t.Errorf("%s %q: got %v, %q", side, command, err, answer.String())
		}
	}
}

func TestServeSendsNoRottenDump(t *testing.T) {
	root := t.TempDir()
	dump := receive(t, root, "acme", 0)
	path := filepath.Join(root, dump)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)-1] ^= 1
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	asking := request(root)
	asking.Command = "send " + strings.Replace(dump, "/", " ", 1)
	if err := Serve(asking, Source, nil, &bytes.Buffer{}); err == nil {
		t.Fatal("got no error")
	}
}
