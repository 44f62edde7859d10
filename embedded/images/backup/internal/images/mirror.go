package images

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"fluxbilling/embedded/images/backup/internal/client"
)

// Settings are the registry's folder and the host that gets it.
type Settings struct {
	Path   string
	Target client.Store
}

// ReadSettings takes the folder from the setting IMAGES_PATH and the host from TARGET_*, see client.Environment.Store.
func ReadSettings(lookup func(string) (string, bool)) (Settings, error) {
	environment := client.ReadEnvironment(lookup)
	settings := Settings{environment.Text("IMAGES_PATH", ""), environment.Store("TARGET_", "/run/secrets/mirror/id_ed25519")}
	return settings, environment.Failure()
}

// Report is what a run did.
type Report struct {
	// Held is how many blobs the source's links lead to.
	Held int `json:"held"`
	// Copied is how many files are new on the target, or changed.
	Copied int `json:"copied"`
	// Bytes is how much they hold.
	Bytes int64 `json:"bytes"`
	// Left is how many links were not carried, because they are being written or lead nowhere.
	Left int `json:"left,omitempty"`
}

// Run makes the target hold every image that the registry holds. The target loses nothing by it: an image
// that was deleted here stays there.
func Run(ctx context.Context, settings Settings) (Report, error) {
	root, err := os.OpenRoot(settings.Path)
	if err != nil {
		return Report{}, client.Fail(client.KindSettings, "setting %q: must name the registry's folder, got %q; mount its volume there", "IMAGES_PATH", settings.Path)
	}
	defer root.Close()
	found, err := collect(root)
	if err != nil {
		return Report{}, client.Fail(client.KindStore, "folder %q: must be readable, got %q; check the job's user against the registry's", settings.Path, err)
	}
	report := Report{Held: len(found.blobs), Left: found.left}
	host, err := settings.Target.Connect(ctx)
	if err != nil {
		return report, err
	}
	defer host.Close()
	held, err := listed(host)
	if err != nil {
		return report, err
	}
	blobs := slices.DeleteFunc(slices.Sorted(maps.Keys(found.blobs)), func(path string) bool {
		return held[path].size == strconv.FormatInt(found.blobs[path], 10)
	})
	links := slices.DeleteFunc(found.links, func(link link) bool { return held[link.path].sum == hashOf([]byte(link.digest)) })
	if len(blobs)+len(links) == 0 {
		return report, nil
	}
	var answer bytes.Buffer
	taking, err := host.Start("take", &answer)
	if err != nil {
		return report, err
	}
	if err := send(root, blobs, found.blobs, links, taking); err != nil {
		var failed *client.Failure
		if errors.As(err, &failed) {
			// Its connection's end cuts what is taken; nothing of an unfinished file counts on the target.
			return report, err
		}
		return report, taking.Failure(err)
	}
	if err := taking.Finish(); err != nil {
		return report, err
	}
	var taken Taken
	if err := json.Unmarshal(answer.Bytes(), &taken); err != nil {
		return report, client.Fail(client.KindRefused, "target: must answer what it took, got %.100q; install the same receiver there", answer.String())
	}
	report.Copied, report.Bytes = taken.Files, taken.Bytes
	return report, nil
}

type link struct{ path, digest string }

type collection struct {
	// links are in the order of a push.
	links []link
	// blobs are the sizes of what the links lead to, by path.
	blobs map[string]int64
	left  int
}

// collect looks in the opposite order of a push: what leads to others was there before they are looked for,
// so whatever is pushed meanwhile, a link that is found has all that it leads to found after it. Blobs to
// which nothing leads are half a push, or what a deletion left.
func collect(root *os.Root) (collection, error) {
	found := collection{blobs: map[string]int64{}}
	var links []link
	for wanted := tag; wanted > blob; wanted-- {
		err := walk(root, repositories, func(path string, rank rank) error {
			if rank != wanted {
				return nil
			}
			content, err := root.ReadFile(path)
			if err == nil {
				links = append(links, link{path, string(content)})
			}
			return err
		})
		if err != nil {
			return collection{}, err
		}
	}
	for _, link := range slices.Backward(links) {
		if !digestPattern.MatchString(link.digest) {
			found.left++
			continue
		}
		facts, err := root.Stat(blobPath(link.digest))
		if errors.Is(err, fs.ErrNotExist) {
			found.left++
			continue
		}
		if err != nil {
			return collection{}, err
		}
		found.blobs[blobPath(link.digest)] = facts.Size()
		found.links = append(found.links, link)
	}
	return found, nil
}

type fact struct{ size, sum string }

func listed(host *client.Connection) (map[string]fact, error) {
	answer, err := host.Output("list")
	if err != nil {
		return nil, err
	}
	held := map[string]fact{}
	for line := range strings.Lines(answer) {
		words := strings.Split(strings.TrimSuffix(line, "\n"), " ")
		if len(words) != 3 {
			return nil, client.Fail(client.KindRefused, "target: must list three words a line, got %.100q; install the same receiver there", line)
		}
		held[words[2]] = fact{words[0], words[1]}
	}
	return held, nil
}

// send writes blobs, then links in their order. The source's own trouble is a Failure, any other error the target's.
func send(root *os.Root, blobs []string, sizes map[string]int64, links []link, to io.Writer) error {
	stream := tar.NewWriter(to)
	for _, path := range blobs {
		if err := sendBlob(root, path, sizes[path], stream); err != nil {
			return err
		}
	}
	for _, link := range links {
		if err := stream.WriteHeader(header(link.path, int64(len(link.digest)))); err != nil {
			return err
		}
		if _, err := io.WriteString(stream, link.digest); err != nil {
			return err
		}
	}
	return stream.Close()
}

func sendBlob(root *os.Root, path string, size int64, stream *tar.Writer) error {
	unlike := func(got any) error {
		return client.Fail(client.KindStore, "blob %q: must stay as it is while it is carried, got %q; the next run goes on", path, got)
	}
	file, err := root.Open(path)
	if err != nil {
		return unlike(err)
	}
	defer file.Close()
	if err := stream.WriteHeader(header(path, size)); err != nil {
		return err
	}
	sent, err := io.Copy(stream, io.LimitReader(file, size))
	var reading *fs.PathError
	if errors.As(err, &reading) {
		return unlike(err)
	}
	if err == nil && sent != size {
		return unlike("fewer bytes")
	}
	// Of a file that grew its first bytes are sent; the target tells by the digest whether they are the blob.
	return err
}

func header(path string, size int64) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: path, Size: size, Mode: 0o640}
}
