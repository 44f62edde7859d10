// Command restore opens a dump of the backup store with a private backup key:
//
//	restore -identity key.txt -dump 20260102T030405Z-deadbeef.dump.gz.age -archive acme.dump
//
// The manifest must lie beside the dump. The archive appears only once the dump was checked against its
// manifest and opened whole; it is what pg_restore reads. Exit codes: 0 done, 2 an argument or the key is
// wrong, 3 the dump is not what its manifest says. What it says on standard error is one sentence.
package main

import (
	"flag"
	"fmt"
	"os"

	"fluxbilling/embedded/images/backup/internal/restore"
)

func main() {
	identity := flag.String("identity", "", "file with the private backup key, as age-keygen writes it")
	dump := flag.String("dump", "", "the dump, its manifest beside it")
	archive := flag.String("archive", "", "the pg_dump archive to write; must not exist")
	flag.Parse()
	manifest, err := restore.Open(*identity, *dump, *archive)
	if err != nil {
		fmt.Fprintf(os.Stderr, "Restore %q: %s.\n", *dump, err)
		os.Exit(restore.ExitCode(err))
	}
	fmt.Printf("%s holds database %q of tenant %q as of %s, from PostgreSQL %s\n",
		*archive, manifest.Database, manifest.Tenant, manifest.StartedAt.Format("2006-01-02 15:04:05 MST"), manifest.ServerVersion)
}
