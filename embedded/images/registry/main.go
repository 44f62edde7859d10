// Command registry is the image registry of distribution, github.com/distribution/distribution/v3, as its own
// command is, without the storage of cloud providers: files on a volume, and passwords in an htpasswd file.
//
//	registry serve /etc/registry/config.yml
package main

import (
	"os"

	"github.com/distribution/distribution/v3/registry"
	_ "github.com/distribution/distribution/v3/registry/auth/htpasswd"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
)

func main() {
	if err := registry.RootCmd.Execute(); err != nil {
		// The command has said what is wrong.
		os.Exit(1)
	}
}
