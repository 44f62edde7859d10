package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// volume is a tenant's volume with these recorded.
func volume(t *testing.T, requests map[string]string) string {
	t.Helper()
	folder := t.TempDir()
	if err := os.Mkdir(filepath.Join(folder, recordedFolder), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range requests {
		if err := os.WriteFile(filepath.Join(folder, recordedFolder, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

func replaying(environment map[string]string) (string, error) {
	var written bytes.Buffer
	err := replay(func(name string) (string, bool) {
		value, ok := environment[name]
		return value, ok
	}, &written)
	return written.String(), err
}

func TestReplayLeadsEachRecordedRequestToItsRouteInOneLine(t *testing.T) {
	folder := volume(t, map[string]string{
		"1.json":  `{"method":"POST","path":"/records?subject=ann","body":{"amount":1}}`,
		"2.json":  `{"method":"POST","path":"/records?subject=bob","body":{"amount":2}}`,
		"3.json":  `{"method":"GET","path":"/settings/smtp.password"}`,
		"4.json":  `{"method":"GET","path":"/gone"}`,
		"5.json":  `{"method":"DELETE","path":"/records"}`,
		"6.json":  `not JSON`,
		"7.json":  `{"method":"GET","path":"https://example.com/"}`,
		"8.json":  `{"method":"NOT A METHOD","path":"/"}`,
		"9.json":  `{"path":"/"}`,
		"10.json": strings.Repeat(" ", maxRecordedBytes) + `{}`,
		"notes":   `nothing recorded`,
	})
	if err := os.Symlink("/etc/passwd", filepath.Join(folder, recordedFolder, "link.json")); err != nil {
		t.Fatal(err)
	}
	got, err := replaying(map[string]string{"TENANT": "acme", "FILES_DIRECTORY": folder})
	want := `{"tenant":"acme","requests":10,"routes":{"GET /settings/{name}":1,"POST /records":2},"unanswered":2,"unreadable":5,"complete":true}` + "\n"
	if err != nil || got != want {
		t.Fatalf("got %s, %v\nwant %s", got, err, want)
	}
}

func TestReplayOfNothingIsWhole(t *testing.T) {
	want := `{"tenant":"acme","requests":0,"routes":{},"unanswered":0,"unreadable":0,"complete":true}` + "\n"
	for _, folder := range []string{t.TempDir(), volume(t, nil)} {
		if got, err := replaying(map[string]string{"TENANT": "acme", "FILES_DIRECTORY": folder}); err != nil || got != want {
			t.Errorf("got %s, %v", got, err)
		}
	}
}

func TestReplaySaysWhereItWasCut(t *testing.T) {
	requests := map[string]string{}
	for number := range maxRecorded + 1 {
		requests[fmt.Sprintf("%d.json", number)] = `{"method":"GET","path":"/"}`
	}
	got, err := replaying(map[string]string{"TENANT": "acme", "FILES_DIRECTORY": volume(t, requests)})
	want := `{"tenant":"acme","requests":10000,"routes":{"GET /{$}":10000},"unanswered":0,"unreadable":0,"complete":false}` + "\n"
	if err != nil || got != want {
		t.Fatalf("got %s, %v", got, err)
	}
}

func TestReplayNeedsNothingOfTheContractButNameAndVolume(t *testing.T) {
	for missing, want := range map[string]string{
		"TENANT":          `setting "TENANT": must be set, got nothing; set it in the Deployment`,
		"FILES_DIRECTORY": `setting "FILES_DIRECTORY": must be set, got nothing; set it in the Deployment`,
	} {
		environment := map[string]string{"TENANT": "acme", "FILES_DIRECTORY": t.TempDir()}
		delete(environment, missing)
		if got, err := replaying(environment); err == nil || err.Error() != want || got != "" {
			t.Errorf("without %s: got %q, %v", missing, got, err)
		}
	}
	_, err := replaying(map[string]string{"TENANT": "acme", "FILES_DIRECTORY": "/nowhere"})
	if want := `setting "FILES_DIRECTORY": must name the tenant's volume, got "/nowhere"; mount it there`; err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
}
