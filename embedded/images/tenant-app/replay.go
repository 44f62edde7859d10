package main

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"strings"
)

const (
	recordedFolder   = "recorded"
	maxRecorded      = 10_000
	maxRecordedBytes = 1 << 20
	recordedBatch    = 256
)

// recorded is a request as it once came: one in each file "<any name>.json" of the folder "recorded" of the tenant's volume.
type recorded struct {
	Method string `json:"method"`
	// Path has the query with it.
	Path string          `json:"path"`
	Body json.RawMessage `json:"body,omitempty"`
}

// replayed is what came of a replay.
type replayed struct {
	Tenant   string `json:"tenant"`
	Requests int    `json:"requests"`
	// Routes counts the requests that each route of this application would answer, by the route.
	Routes map[string]int `json:"routes"`
	// Unanswered are those that no route takes, Unreadable those that are no request.
	Unanswered int `json:"unanswered"`
	Unreadable int `json:"unreadable"`
	// Complete is false where there were more than are replayed at once.
	Complete bool `json:"complete"`
}

// replay leads every recorded request to the route that takes it today, and writes one line of JSON about it. It calls
// nothing and keeps nothing: it has no database, no secret and no network (claim R6).
//
//	TENANT           the tenant's name
//	FILES_DIRECTORY  the tenant's volume, read only
func replay(lookup func(string) (string, bool), to io.Writer) error {
	reader := settingsReader{lookup: lookup}
	summary := replayed{Tenant: reader.text("TENANT", ""), Routes: map[string]int{}, Complete: true}
	folder := reader.text("FILES_DIRECTORY", "")
	if len(reader.problems) > 0 {
		return reader.problems[0]
	}
	// Nothing that is recorded leads out of the volume, a link neither.
	root, err := os.OpenRoot(folder)
	if err != nil {
		reader.refuse("FILES_DIRECTORY", "must name the tenant's volume, got %q; mount it there", folder)
		return reader.problems[0]
	}
	defer root.Close()
	if err := summary.read(root, (&Server{}).routes()); err != nil {
		return err
	}
	return json.NewEncoder(to).Encode(summary)
}

// read goes through the folder in batches: how many there are is the tenant's.
func (r *replayed) read(root *os.Root, routes *http.ServeMux) error {
	folder, err := root.Open(recordedFolder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer folder.Close()
	for {
		entries, err := folder.ReadDir(recordedBatch)
		for _, entry := range entries {
			if !entry.Type().IsRegular() || !strings.HasSuffix(entry.Name(), ".json") {
				continue
			}
			if r.Requests == maxRecorded {
				r.Complete = false
				return nil
			}
			r.Requests++
			r.count(root, path.Join(recordedFolder, entry.Name()), routes)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (r *replayed) count(root *os.Root, name string, routes *http.ServeMux) {
	request, err := readRecorded(root, name)
	if err != nil {
		r.Unreadable++
		return
	}
	// Which route it is, without taking it.
	if _, route := routes.Handler(request); route != "" {
		r.Routes[route]++
		return
	}
	r.Unanswered++
}

var errNotRecorded = errors.New("the file must hold a request")

func readRecorded(root *os.Root, name string) (*http.Request, error) {
	file, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, maxRecordedBytes+1))
	if err != nil || len(content) > maxRecordedBytes {
		return nil, errNotRecorded
	}
	var request recorded
	if err := json.Unmarshal(content, &request); err != nil {
		return nil, err
	}
	if !strings.HasPrefix(request.Path, "/") || request.Method == "" {
		return nil, errNotRecorded
	}
	return http.NewRequest(request.Method, request.Path, nil)
}
