// Package sender dumps one tenant's database and streams it to the backup store; nothing touches a disk here.
package sender

import (
	"context"
	"crypto/rand"
	"io"
	"time"

	"fluxbilling/embedded/images/backup/internal/archive"
	"fluxbilling/embedded/images/backup/internal/client"
	"fluxbilling/embedded/images/backup/internal/seal"
	"fluxbilling/embedded/images/backup/internal/wire"
)

// Run makes one backup and returns the manifest of what the store has safe.
//
// The store is asked first, so that a refusal costs the database nothing. The manifest goes out only
// after pg_dump ended well; whatever fails before leaves nothing that counts.
func Run(ctx context.Context, settings Settings) (wire.Manifest, error) {
	startedAt := time.Now().UTC().Truncate(time.Second)
	var random [4]byte
	rand.Read(random[:])
	file := wire.FileName(startedAt, random)

	connection, err := settings.Store.Connect(ctx)
	if err != nil {
		return wire.Manifest{}, err
	}
	defer connection.Close()
	transfer, err := connection.Start(wire.Command(settings.Tenant, file), nil)
	if err != nil {
		return wire.Manifest{}, err
	}

	frames := wire.NewWriter(transfer)
	sealed, err := seal.NewWriter(frames, settings.Recipients)
	if err != nil {
		return wire.Manifest{}, transfer.Failure(err)
	}
	head := &archive.Head{}
	source := &counter{}
	// The store's end of the pipe breaking must end pg_dump, and it is the store's reason that is told.
	dumping, endDump := context.WithCancel(ctx)
	defer endDump()
	sink := &failingWriter{to: sealed, onFailure: endDump}
	err = dump(dumping, settings, io.MultiWriter(head, source, sink))
	switch {
	case ctx.Err() != nil:
		return wire.Manifest{}, client.Fail(client.KindDefect, "the dump must run to its end, got a signal to stop; the next run starts anew")
	case sink.failed != nil:
		return wire.Manifest{}, transfer.Failure(sink.failed)
	case err != nil:
		return wire.Manifest{}, err
	}
	if err := sealed.Close(); err != nil {
		return wire.Manifest{}, transfer.Failure(err)
	}
	versions, err := head.Versions()
	if err != nil {
		return wire.Manifest{}, client.Fail(client.KindDatabase, "database %q: %w; check PG_DUMP", settings.DatabaseName, err)
	}
	sum, sizeBytes := frames.Sum()
	manifest := wire.Manifest{
		FormatVersion:         wire.ManifestVersion,
		Tenant:                settings.Tenant,
		Database:              settings.DatabaseName,
		File:                  file,
		SHA256:                sum,
		SizeBytes:             sizeBytes,
		UncompressedSizeBytes: source.bytes,
		ServerVersion:         versions.Server,
		PgDumpVersion:         versions.PgDump,
		Recipients:            settings.Recipients.Names,
		StartedAt:             startedAt,
		FinishedAt:            time.Now().UTC().Truncate(time.Second),
	}
	if err := frames.Finish(manifest); err != nil {
		return wire.Manifest{}, transfer.Failure(err)
	}
	if err := transfer.Confirm(sum); err != nil {
		return wire.Manifest{}, err
	}
	return manifest, nil
}

type counter struct{ bytes int64 }

func (c *counter) Write(data []byte) (int, error) {
	c.bytes += int64(len(data))
	return len(data), nil
}

// failingWriter remembers its first failure and tells about it.
type failingWriter struct {
	to        io.Writer
	onFailure func()
	failed    error
}

func (f *failingWriter) Write(data []byte) (int, error) {
	written, err := f.to.Write(data)
	if err != nil && f.failed == nil {
		f.failed = err
		f.onFailure()
	}
	return written, err
}
