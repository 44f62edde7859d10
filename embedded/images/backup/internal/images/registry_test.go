package images

import (
	"context"
	"encoding/json"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"fluxbilling/embedded/images/backup/internal/sshtest"
)

// registry is a folder as the registry keeps it.
type registry struct {
	t    *testing.T
	root string
}

func newRegistry(t *testing.T) registry { return registry{t, t.TempDir()} }

func (r registry) path(name string) string { return filepath.Join(r.root, name) }

func (r registry) write(name, content string) {
	r.t.Helper()
	if err := os.MkdirAll(filepath.Dir(r.path(name)), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(r.path(name), []byte(content), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

func (r registry) read(name string) string {
	r.t.Helper()
	content, err := os.ReadFile(r.path(name))
	if err != nil {
		r.t.Fatal(err)
	}
	return string(content)
}

// put keeps a blob as an upload's end does.
func (r registry) put(content string) (digest string) {
	digest = digestPrefix + hashOf([]byte(content))
	upload := repositories + "/any/_uploads/" + digest[len(digestPrefix):] + "/data"
	r.write(upload, content)
	os.MkdirAll(filepath.Dir(r.path(blobPath(digest))), 0o755)
	if err := os.Rename(r.path(upload), r.path(blobPath(digest))); err != nil {
		r.t.Fatal(err)
	}
	return digest
}

type manifest struct {
	Config string   `json:"config"`
	Layers []string `json:"layers"`
}

// push does what a push does, in its order. Links are not written at one stroke here, as older registries do it.
func (r registry) push(repository, tagName string, layers ...string) (digest string) {
	r.t.Helper()
	below := repositories + "/" + repository
	link := func(kind, digest string) {
		r.write(below+"/"+kind+"/sha256/"+digest[len(digestPrefix):]+"/link", digest)
	}
	image := manifest{Config: r.put(`{"architecture":"amd64","of":"` + hashOf([]byte(strings.Join(layers, ""))) + `"}`)}
	link("_layers", image.Config)
	for _, layer := range layers {
		digest := r.put(layer)
		link("_layers", digest)
		image.Layers = append(image.Layers, digest)
	}
	text, _ := json.Marshal(image)
	digest = r.put(string(text))
	link("_manifests/revisions", digest)
	link("_manifests/tags/"+tagName+"/index", digest)
	r.write(below+"/_manifests/tags/"+tagName+"/current/link", digest)
	return digest
}

// files are all there are, whatever they are.
func (r registry) files() map[string]string {
	r.t.Helper()
	found := map[string]string{}
	err := fs.WalkDir(os.DirFS(r.root), ".", func(name string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			found[name] = r.read(name)
		}
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return found
}

// mustBeWhole checks that everything can be pulled to which something leads.
func (r registry) mustBeWhole() {
	r.t.Helper()
	files := r.files()
	must := func(by, name string) {
		r.t.Helper()
		if _, ok := files[name]; !ok {
			r.t.Fatalf("%s leads to %s, which is not there", by, name)
		}
	}
	for name, content := range files {
		rank, ok := rankOf(name)
		if !ok {
			if !strings.HasPrefix(path.Base(name), unfinishedPrefix) {
				r.t.Fatalf("got a foreign file %s", name)
			}
			continue
		}
		if rank == blob {
			if got := digestPrefix + hashOf([]byte(content)); got != blobDigest(name) {
				r.t.Fatalf("%s holds %s", name, got)
			}
			continue
		}
		must(name, blobPath(content))
		hash := content[len(digestPrefix):]
		switch rank {
		case tag, index:
			// A pull needs no tag's index: that is its history.
			must(name, name[:strings.Index(name, "/tags/")]+"/revisions/sha256/"+hash+"/link")
		case revision:
			var image manifest
			if err := json.Unmarshal([]byte(files[blobPath(content)]), &image); err != nil {
				r.t.Fatal(err)
			}
			for _, digest := range append(image.Layers, image.Config) {
				must(name, name[:strings.Index(name, "/_manifests/")]+"/_layers/sha256/"+digest[len(digestPrefix):]+"/link")
				must(name, blobPath(digest))
			}
		}
	}
}

func (r registry) mustHoldNothingUnfinished() {
	r.t.Helper()
	for name := range r.files() {
		if strings.HasPrefix(path.Base(name), unfinishedPrefix) {
			r.t.Fatalf("got %s", name)
		}
	}
}

// standby is a target behind SSH.
type standby struct {
	registry
	server sshtest.Server
	// takes is how often something was sent.
	takes atomic.Int64
	// bring is the stream on its way to the target; the connection ends when it answers false after the target did.
	bring func(io.Reader) (io.Reader, bool)
}

func newStandby(t *testing.T) *standby {
	t.Helper()
	made := &standby{registry: newRegistry(t)}
	made.server = sshtest.Serve(t, func(command string, channel io.ReadWriter) error {
		from, stays := io.Reader(channel), true
		if command == "take" {
			made.takes.Add(1)
			if made.bring != nil {
				from, stays = made.bring(channel)
			}
		}
		err := Serve(asking(made.root, command), from, channel)
		if !stays {
			return sshtest.ErrCut
		}
		return err
	})
	return made
}

func asking(root, command string) Request {
	return Request{Root: root, Command: command, MaxBytes: 1 << 20, IdleTimeout: time.Minute}
}

// settings are read as the program does it.
func settings(t *testing.T, folder string, to *standby) (Settings, error) {
	environment := map[string]string{"IMAGES_PATH": folder}
	maps.Copy(environment, to.server.Environment(t, "TARGET_"))
	return ReadSettings(func(name string) (string, bool) { value, ok := environment[name]; return value, ok })
}

func run(t *testing.T, source registry, to *standby) (Report, error) {
	t.Helper()
	read, err := settings(t, source.root, to)
	if err != nil {
		t.Fatal(err)
	}
	return Run(context.Background(), read)
}

func mustRun(t *testing.T, source registry, to *standby) Report {
	t.Helper()
	report, err := run(t, source, to)
	if err != nil {
		t.Fatal(err)
	}
	to.mustBeWhole()
	to.mustHoldNothingUnfinished()
	return report
}
