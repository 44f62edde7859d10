// Command backup dumps one tenant's database, encrypts the dump and hands it to the backup store over SSH.
//
// Settings come from the environment and mounted files (see sender.ReadSettings). It prints the
// manifest of what the store has safe as one line of JSON. Exit codes: 0 stored; 2 a setting is wrong;
// 3 the database could not be dumped; 4 the store could not be reached or is not the pinned one; 5 the
// store refused; 1 anything else. What it says on standard error is one sentence.
package main

import (
	"fmt"

	"fluxbilling/embedded/images/backup/internal/client"
	"fluxbilling/embedded/images/backup/internal/sender"
)

func main() {
	subject := func(settings sender.Settings) string { return fmt.Sprintf("Backup %q", settings.Tenant) }
	client.Main(subject, sender.ReadSettings, sender.Run)
}
