package images

import (
	"archive/tar"
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"fluxbilling/embedded/images/backup/internal/idle"
	"fluxbilling/embedded/images/backup/internal/store"
)

// Side is what the key of the registry's mirror may do: list and add.
const Side store.Side = "images"

// MaxBytes bounds one file: an image's layer is far smaller.
const MaxBytes = 20 << 30

// Files that are being written carry this prefix, which no file with a rank can have. The name is the same
// each time, so that what a killed transfer left is written over by the next.
const unfinishedPrefix = ".incoming-"

// A tar ends with two blocks of zeros.
const tarEndBytes = 1024

// Request is one command as the forced command sees it.
type Request struct {
	// Root is the registry's folder on this host.
	Root string
	// Command is what the mirror asked for (SSH_ORIGINAL_COMMAND).
	Command string
	// MaxBytes bounds one file.
	MaxBytes int64
	// IdleTimeout ends a transfer from which nothing comes.
	IdleTimeout time.Duration
}

// Taken is the answer to take: what was written. A blob that was there already is not counted.
type Taken struct {
	Files int   `json:"files"`
	Bytes int64 `json:"bytes"`
}

// Serve runs one command of the mirror, and writes its answer to answer. Nothing that was taken is ever deleted.
//
//	list   a line "<size> <sha256> <path>" for each blob and link, by path; "-" is the hash of a file over 4096 bytes
//	take   takes a tar of blobs and links in, Taken as JSON
func Serve(request Request, from io.Reader, answer io.Writer) error {
	root, err := os.OpenRoot(request.Root)
	if err != nil {
		return err
	}
	defer root.Close()
	switch request.Command {
	case "list":
		return list(root, answer)
	case "take":
		taken, err := take(root, request, from)
		if err != nil {
			return err
		}
		return json.NewEncoder(answer).Encode(taken)
	}
	return fmt.Errorf("command: must be list or take, got %.80q; call it with mirror-images", request.Command)
}

func list(root *os.Root, answer io.Writer) error {
	var paths []string
	if err := walk(root, folder, func(path string, _ rank) error { paths = append(paths, path); return nil }); err != nil {
		return err
	}
	slices.Sort(paths)
	lines := bufio.NewWriter(answer)
	for _, path := range paths {
		facts, err := root.Lstat(path)
		if err != nil {
			return err
		}
		sum := "-"
		if facts.Size() <= maxLinkBytes {
			content, err := root.ReadFile(path)
			if err != nil {
				return err
			}
			sum = hashOf(content)
		}
		fmt.Fprintf(lines, "%d %s %s\n", facts.Size(), sum, path)
	}
	return lines.Flush()
}

func hashOf(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// take writes what comes file by file, each under a temporary name, synced, checked, then renamed: whatever
// ends it, a file that counts is whole. A link is taken only after its blob, so it never leads nowhere.
func take(root *os.Root, request Request, from io.Reader) (Taken, error) {
	handle, err := root.Open(".")
	if err != nil {
		return Taken{}, err
	}
	defer handle.Close()
	if err := syscall.Flock(int(handle.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return Taken{}, fmt.Errorf("take: must be the only one on this folder, got %q; let the other end", err)
	}
	watch := idle.NewWatch(request.IdleTimeout, from)
	defer watch.Stop()
	stream := &stream{from: from, watch: watch}
	files := tar.NewReader(stream)
	target := &target{root: root, handle: handle, maxBytes: request.MaxBytes}
	for {
		header, err := files.Next()
		if errors.Is(err, io.EOF) && stream.zeros >= tarEndBytes {
			return target.taken, target.sync()
		}
		if err == nil {
			err = target.file(header, files)
			stream.zeros = 0
		}
		if err != nil && watch.HasExpired() {
			return Taken{}, fmt.Errorf("stream: must bring something at least every %s, got nothing; the next run goes on", request.IdleTimeout)
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return Taken{}, errors.New("stream: must be a tar with its end, got a cut one; the next run goes on")
		}
		if err != nil {
			return Taken{}, err
		}
	}
}

// stream is what comes in, watched while it is waited for.
type stream struct {
	from  io.Reader
	watch *idle.Watch
	// zeros is with how many the bytes since it was last set end: package tar does not tell a tar's end from a cut between two files.
	zeros int
}

func (s *stream) Read(into []byte) (int, error) {
	s.watch.Alive()
	n, err := s.from.Read(into)
	s.watch.Stop()
	rest := bytes.TrimRight(into[:n], "\x00")
	if len(rest) > 0 {
		s.zeros = 0
	}
	s.zeros += n - len(rest)
	return n, err
}

type target struct {
	root     *os.Root
	handle   *os.File
	maxBytes int64
	last     rank
	taken    Taken
}

// file takes one in.
func (t *target) file(header *tar.Header, content io.Reader) error {
	name := header.Name
	rank, ok := rankOf(name)
	if !ok {
		return fmt.Errorf("path %.200q: must be a registry's blob or link below %s, got another; send only those", name, folder)
	}
	if header.Typeflag != tar.TypeReg {
		return fmt.Errorf("path %q: must be a regular file, got tar type %q; send only those", name, header.Typeflag)
	}
	limit := t.maxBytes
	if rank != blob {
		limit = maxLinkBytes
	}
	if header.Size > limit {
		return fmt.Errorf("path %q: must hold at most %d bytes, got %d; make the image's layer smaller", name, limit, header.Size)
	}
	if rank != blob {
		link, err := io.ReadAll(content)
		if err != nil {
			return err
		}
		if !digestPattern.Match(link) {
			return fmt.Errorf("link %q: must hold a sha256 digest, got %.80q; push the image anew", name, link)
		}
		if _, err := t.root.Stat(blobPath(string(link))); err != nil {
			return fmt.Errorf("link %q: must come after its blob, got %q; send the blob first", name, err)
		}
		return t.write(name, rank, header.Size, bytes.NewReader(link))
	}
	if facts, err := t.root.Lstat(name); err == nil {
		if facts.Size() != header.Size {
			return fmt.Errorf("blob %q: must have the %d bytes that it has here, got %d; find out which of them is spoilt", name, facts.Size(), header.Size)
		}
		_, err := io.Copy(io.Discard, content)
		return err
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return t.write(name, rank, header.Size, content)
}

func (t *target) write(name string, rank rank, size int64, content io.Reader) (err error) {
	if rank != t.last {
		// The disk too must have what a file leads to before the file.
		if err := t.sync(); err != nil {
			return err
		}
		t.last = rank
	}
	parent, base := path.Split(name)
	if err := t.root.MkdirAll(path.Clean(parent), 0o750); err != nil {
		return err
	}
	unfinished := parent + unfinishedPrefix + base
	file, err := t.root.OpenFile(unfinished, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	hash := sha256.New()
	_, err = io.Copy(io.MultiWriter(file, hash), content)
	if got := digestPrefix + hex.EncodeToString(hash.Sum(nil)); err == nil && rank == blob && got != blobDigest(name) {
		err = fmt.Errorf("blob %q: must have the digest in its path, got %s; push its image anew", name, got)
	}
	if err == nil {
		err = file.Sync()
	}
	err = errors.Join(err, file.Close())
	if err == nil {
		err = t.root.Rename(unfinished, name)
	}
	if err != nil {
		t.root.Remove(unfinished)
		return err
	}
	t.taken.Files++
	t.taken.Bytes += size
	return nil
}

// sync puts names on disk as well: one call for all the folders that files came into.
func (t *target) sync() error { return unix.Syncfs(int(t.handle.Fd())) }
