// Command backup dumps one tenant's database, encrypts the dump and hands it to the backup store over SSH.
//
// Settings come from the environment and mounted files (see sender.ReadSettings). It prints the
// manifest of what the store has safe as one line of JSON. Exit codes: 0 stored; 2 a setting is wrong;
// 3 the database could not be dumped; 4 the store could not be reached or is not the pinned one; 5 the
// store refused; 1 anything else. What it says on standard error is one sentence.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"fluxbilling/embedded/images/backup/internal/client"
	"fluxbilling/embedded/images/backup/internal/sender"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	settings, err := sender.ReadSettings(os.LookupEnv)
	if err != nil {
		end("", err)
	}
	manifest, err := sender.Run(ctx, settings)
	if err != nil {
		end(settings.Tenant, err)
	}
	line, err := json.Marshal(manifest)
	if err != nil {
		end(settings.Tenant, err)
	}
	fmt.Println(string(line))
}

func end(tenant string, err error) {
	fmt.Fprintf(os.Stderr, "Backup %q: %s.\n", tenant, err)
	os.Exit(client.ExitCode(err))
}
