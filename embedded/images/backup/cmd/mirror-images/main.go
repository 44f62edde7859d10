// Command mirror-images copies the image registry's folder to another host, over SSH.
//
// Settings come from the environment and mounted files (see images.ReadSettings). It prints what it did as
// one line of JSON. Exit codes: as of command backup.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"fluxbilling/embedded/images/backup/internal/client"
	"fluxbilling/embedded/images/backup/internal/images"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	settings, err := images.ReadSettings(os.LookupEnv)
	if err != nil {
		end(err)
	}
	report, err := images.Run(ctx, settings)
	if err != nil {
		end(err)
	}
	line, err := json.Marshal(report)
	if err != nil {
		end(err)
	}
	fmt.Println(string(line))
}

func end(err error) {
	fmt.Fprintf(os.Stderr, "Mirror of images: %s.\n", err)
	os.Exit(client.ExitCode(err))
}
