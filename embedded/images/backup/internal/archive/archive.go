// Package archive reads the head of a pg_dump archive in custom format, which names the versions that made it.
package archive

import (
	"errors"
	"fmt"
)

// Versions are the server's and pg_dump's, as the archive's head names them.
type Versions struct {
	Server string
	PgDump string
}

const (
	magic       = "PGDMP"
	timeFields  = 7
	maxText     = 4096
	headMaxSize = 16 << 10

	// From archive format 1.15 on (PostgreSQL 16), compression is one byte instead of an integer.
	formatWithCompressionByte = 15
)

// Head collects the first bytes of what is written to it and passes nothing on.
type Head struct{ bytes []byte }

// Write keeps what belongs to the head.
func (h *Head) Write(data []byte) (int, error) {
	if room := headMaxSize - len(h.bytes); room > 0 {
		h.bytes = append(h.bytes, data[:min(room, len(data))]...)
	}
	return len(data), nil
}

// Versions reads the collected head.
func (h *Head) Versions() (Versions, error) {
	reader := reader{rest: h.bytes}
	if string(reader.take(len(magic))) != magic {
		return Versions{}, errors.New("the dump must be a pg_dump archive in custom format, got something else")
	}
	version := reader.take(3)
	sizes := reader.take(3)
	if reader.failed || version[0] != 1 {
		return Versions{}, fmt.Errorf("the dump's archive format must be 1.x, got %v", version)
	}
	reader.intBytes = int(sizes[0])
	if version[1] >= formatWithCompressionByte {
		reader.take(1)
	} else {
		reader.integer()
	}
	for range timeFields {
		reader.integer()
	}
	reader.text()
	versions := Versions{Server: reader.text(), PgDump: reader.text()}
	if reader.failed || versions.Server == "" || versions.PgDump == "" {
		return Versions{}, errors.New("the dump's head must name the versions that made it, got none")
	}
	return versions, nil
}

type reader struct {
	rest     []byte
	intBytes int
	failed   bool
}

func (r *reader) take(count int) []byte {
	if count < 0 || len(r.rest) < count {
		r.failed = true
		return make([]byte, max(count, 0))
	}
	taken := r.rest[:count]
	r.rest = r.rest[count:]
	return taken
}

// integer reads a sign byte and the value, least significant byte first.
func (r *reader) integer() int {
	negative := r.take(1)[0] != 0
	value := 0
	for position, part := range r.take(r.intBytes) {
		value |= int(part) << (8 * position)
	}
	if negative {
		return -value
	}
	return value
}

// text reads a length and that many bytes; a negative length stands for no text.
func (r *reader) text() string {
	length := r.integer()
	if length < 0 {
		return ""
	}
	if length > maxText {
		r.failed = true
		return ""
	}
	return string(r.take(length))
}
