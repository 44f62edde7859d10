// Package wire is the language between a tenant's backup job and the store.
//
// The job runs "receive <tenant> <file name>" over SSH and writes frames to its standard input: any
// number of data frames, then exactly one manifest frame, then the end. A transfer that ends without
// its manifest was cut and counts for nothing. The store answers "stored <sha256>" on standard output.
//
// A frame is one byte of kind ('D' data, 'M' manifest), four bytes of length (big-endian), the payload.
package wire

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"fluxbilling/embedded/images/backup/internal/seal"
)

const (
	kindData     = 'D'
	kindManifest = 'M'

	maxDataBytes     = 1 << 20
	maxManifestBytes = 16 << 10
	headerBytes      = 5
)

// Manifest says what a dump is. It lies beside the dump; a dump without one does not count.
type Manifest struct {
	FormatVersion         int    `json:"formatVersion"`
	Tenant                string `json:"tenant"`
	Database              string `json:"database"`
	File                  string `json:"file"`
	SHA256                string `json:"sha256"`
	SizeBytes             int64  `json:"sizeBytes"`
	UncompressedSizeBytes int64  `json:"uncompressedSizeBytes"`
	ServerVersion         string `json:"serverVersion"`
	PgDumpVersion         string `json:"pgDumpVersion"`
	// Recipients are the public backup keys, one of whose private halves opens the dump.
	Recipients []string  `json:"recipients"`
	StartedAt  time.Time `json:"startedAt"`
	FinishedAt time.Time `json:"finishedAt"`
	// ReceivedAt is when the first store had the dump safe, by that store's clock; a tenant's job does not say it.
	ReceivedAt *time.Time `json:"receivedAt,omitempty"`
	// KeepDays is how many days the stores keep the dump from then on, by its tenant's plan; the first store says it too.
	KeepDays int `json:"keepDays,omitempty"`
}

// ManifestVersion is the FormatVersion of manifests as this package writes them.
const ManifestVersion = 2

// Ending of a dump's name: gzip inside, age outside (see package seal).
const Ending = ".dump.gz.age"

var (
	tenantPattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	filePattern   = regexp.MustCompile(`^[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}\.dump\.gz\.age$`)
)

// Refusal is the sender's to mend. Every other error of a transfer is the store's own trouble.
type Refusal struct{ reason string }

func (r *Refusal) Error() string { return r.reason }

// Refuse makes a Refusal.
func Refuse(format string, values ...any) error { return &Refusal{fmt.Sprintf(format, values...)} }

// ErrCut means that the stream ended before its manifest.
var ErrCut = Refuse("a transfer must end with its manifest, got a cut one")

// IsTenant tells whether name can be a tenant: a DNS label.
func IsTenant(name string) bool { return tenantPattern.MatchString(name) }

// IsFileName tells whether name can be a dump: UTC time, eight hex digits, the Ending; no path.
func IsFileName(name string) bool { return filePattern.MatchString(name) }

// FileName names a dump by its start and eight random hex digits, so that no two jobs collide.
func FileName(startedAt time.Time, random [4]byte) string {
	return startedAt.UTC().Format("20060102T150405Z") + "-" + hex.EncodeToString(random[:]) + Ending
}

// ManifestName names the manifest that lies beside a dump.
func ManifestName(file string) string { return strings.TrimSuffix(file, Ending) + ".json" }

// Command is what the job asks the store to run.
func Command(tenant, file string) string { return "receive " + tenant + " " + file }

// ParseCommand takes a Command apart and refuses everything else.
func ParseCommand(command string) (tenant, file string, err error) {
	parts := strings.Split(command, " ")
	if len(parts) != 3 || parts[0] != "receive" || !IsTenant(parts[1]) || !IsFileName(parts[2]) {
		return "", "", Refuse("the command must be \"receive <tenant> <file name>\", got %.80q", command)
	}
	return parts[1], parts[2], nil
}

// Writer sends one dump as frames. It counts and hashes what passes.
type Writer struct {
	to   io.Writer
	hash interface {
		io.Writer
		Sum([]byte) []byte
	}
	sizeBytes int64
}

// NewWriter starts a transfer on to.
func NewWriter(to io.Writer) *Writer { return &Writer{to: to, hash: sha256.New()} }

// Write sends data frames.
func (w *Writer) Write(data []byte) (int, error) {
	written := 0
	for len(data) > 0 {
		part := data[:min(len(data), maxDataBytes)]
		if err := w.frame(kindData, part); err != nil {
			return written, err
		}
		w.hash.Write(part)
		w.sizeBytes += int64(len(part))
		written += len(part)
		data = data[len(part):]
	}
	return written, nil
}

// Sum is the SHA-256 (hex) and the size of what was written so far.
func (w *Writer) Sum() (sum string, sizeBytes int64) {
	return hex.EncodeToString(w.hash.Sum(nil)), w.sizeBytes
}

// Finish sends the manifest, which makes the transfer count.
func (w *Writer) Finish(manifest Manifest) error {
	payload, err := json.Marshal(manifest)
	if err != nil {
		return err
	}
	return w.frame(kindManifest, payload)
}

func (w *Writer) frame(kind byte, payload []byte) error {
	header := [headerBytes]byte{kind}
	binary.BigEndian.PutUint32(header[1:], uint32(len(payload)))
	if _, err := w.to.Write(header[:]); err != nil {
		return err
	}
	_, err := w.to.Write(payload)
	return err
}

// Read takes a transfer in: data goes to sink, the manifest comes back once it fits what was received.
//
// It fails with ErrCut when the stream ends early, and refuses data that is not encrypted, more than
// maxBytes of it, a manifest whose hash or size is another, and anything after the manifest. progress is
// called for every frame.
func Read(from io.Reader, sink io.Writer, maxBytes int64, progress func()) (Manifest, error) {
	hash := sha256.New()
	head := &head{}
	var sizeBytes int64
	for {
		kind, length, err := readHeader(from)
		if err != nil {
			return Manifest{}, err
		}
		progress()
		switch kind {
		case kindData:
			if length > maxDataBytes {
				return Manifest{}, Refuse("a data frame must hold at most %d bytes, got %d", maxDataBytes, length)
			}
			if sizeBytes+int64(length) > maxBytes {
				return Manifest{}, Refuse("a dump must hold at most %d bytes, got more", maxBytes)
			}
			if _, err := io.CopyN(io.MultiWriter(head, sink, hash), from, int64(length)); err != nil {
				return Manifest{}, cutOr(err)
			}
			if !head.mayBeSealed() {
				return Manifest{}, Refuse("a dump must be encrypted to a backup key, got one that is not")
			}
			sizeBytes += int64(length)
		case kindManifest:
			if length > maxManifestBytes {
				return Manifest{}, Refuse("a manifest must hold at most %d bytes, got %d", maxManifestBytes, length)
			}
			payload := make([]byte, length)
			if _, err := io.ReadFull(from, payload); err != nil {
				return Manifest{}, cutOr(err)
			}
			if n, _ := io.ReadFull(from, make([]byte, 1)); n != 0 {
				return Manifest{}, Refuse("nothing must follow the manifest, got more bytes")
			}
			if sizeBytes > 0 && !head.isSealed() {
				return Manifest{}, Refuse("a dump must be encrypted to a backup key, got one that is not")
			}
			return checkManifest(payload, hex.EncodeToString(hash.Sum(nil)), sizeBytes)
		default:
			return Manifest{}, Refuse("a frame must be data or manifest, got kind 0x%02x", kind)
		}
	}
}

func readHeader(from io.Reader) (kind byte, length uint32, err error) {
	var header [headerBytes]byte
	if _, err := io.ReadFull(from, header[:]); err != nil {
		return 0, 0, cutOr(err)
	}
	return header[0], binary.BigEndian.Uint32(header[1:]), nil
}

func checkManifest(payload []byte, sum string, sizeBytes int64) (Manifest, error) {
	var manifest Manifest
	decoder := json.NewDecoder(strings.NewReader(string(payload)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&manifest); err != nil {
		return Manifest{}, Refuse("the manifest must be JSON with the fields of this version, got something else")
	}
	switch {
	case manifest.FormatVersion != ManifestVersion:
		return Manifest{}, Refuse("the manifest's formatVersion must be %d, got %d", ManifestVersion, manifest.FormatVersion)
	case sizeBytes == 0:
		return Manifest{}, Refuse("a dump must not be empty, got 0 bytes")
	case manifest.SizeBytes != sizeBytes:
		return Manifest{}, Refuse("the manifest's sizeBytes must be %d, got %d", sizeBytes, manifest.SizeBytes)
	case len(manifest.Recipients) == 0:
		return Manifest{}, Refuse("the manifest must name the backup keys that open the dump, got none")
	case manifest.SHA256 != sum:
		return Manifest{}, Refuse("the manifest's sha256 must be %s, got %.64q", sum, manifest.SHA256)
	}
	return manifest, nil
}

func cutOr(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return ErrCut
	}
	return err
}

// head keeps the first bytes of a dump: enough to know that it is encrypted.
type head struct{ bytes []byte }

func (h *head) Write(data []byte) (int, error) {
	if room := len(seal.Magic) - len(h.bytes); room > 0 {
		h.bytes = append(h.bytes, data[:min(room, len(data))]...)
	}
	return len(data), nil
}

func (h *head) mayBeSealed() bool { return strings.HasPrefix(seal.Magic, string(h.bytes)) }
func (h *head) isSealed() bool    { return string(h.bytes) == seal.Magic }
