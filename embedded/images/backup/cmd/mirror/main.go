// Command mirror copies what one backup store holds to another, over SSH.
//
// Settings come from the environment and mounted files (see mirror.ReadSettings). It prints what it did as
// one line of JSON. Exit codes: as of command backup.
package main

import (
	"fluxbilling/embedded/images/backup/internal/client"
	"fluxbilling/embedded/images/backup/internal/mirror"
)

func main() {
	client.Main(func(mirror.Settings) string { return "Mirror" }, mirror.ReadSettings, mirror.Run)
}
