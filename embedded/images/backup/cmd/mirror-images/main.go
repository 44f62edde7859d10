// Command mirror-images copies the image registry's folder to another host, over SSH.
//
// Settings come from the environment and mounted files (see images.ReadSettings). It prints what it did as
// one line of JSON. Exit codes: as of command backup.
package main

import (
	"fluxbilling/embedded/images/backup/internal/client"
	"fluxbilling/embedded/images/backup/internal/images"
)

func main() {
	client.Main(func(images.Settings) string { return "Mirror of images" }, images.ReadSettings, images.Run)
}
