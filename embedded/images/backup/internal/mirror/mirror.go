// Package mirror copies what one backup store holds to another.
package mirror

import (
	"context"
	"errors"
	"io"
	"strings"

	"fluxbilling/embedded/images/backup/internal/client"
)

// Settings are the two stores.
type Settings struct {
	Source client.Store
	Target client.Store
}

// ReadSettings takes the stores from the settings SOURCE_* and TARGET_*, see client.Environment.Store.
// One key serves for both; its certificates differ.
func ReadSettings(lookup func(string) (string, bool)) (Settings, error) {
	const keyFile = "/run/secrets/mirror/id_ed25519"
	environment := client.ReadEnvironment(lookup)
	settings := Settings{environment.Store("SOURCE_", keyFile), environment.Store("TARGET_", keyFile)}
	return settings, environment.Failure()
}

// Report is what a run did.
type Report struct {
	// Held is how many dumps both stores hold now.
	Held int `json:"held"`
	// Copied is how many of them are new on the target.
	Copied int `json:"copied"`
	// Forgotten is how many tenants' deletion the target was told.
	Forgotten int `json:"forgotten"`
}

// Run makes the target hold every dump that the source holds. Neither store loses anything by it but what
// each has kept long enough by its own clock: a source that was emptied empties no target.
func Run(ctx context.Context, settings Settings) (Report, error) {
	source, err := settings.Source.Connect(ctx)
	if err != nil {
		return Report{}, err
	}
	defer source.Close()
	target, err := settings.Target.Connect(ctx)
	if err != nil {
		return Report{}, err
	}
	defer target.Close()
	for _, store := range []*client.Connection{source, target} {
		if _, err := store.Output("prune"); err != nil {
			return Report{}, err
		}
	}
	there, err := list(source)
	if err != nil {
		return Report{}, err
	}
	here, err := list(target)
	if err != nil {
		return Report{}, err
	}
	report := Report{Held: len(there.dumps)}
	for name, sum := range there.dumps {
		if held, ok := here.dumps[name]; ok {
			if held != sum {
				return report, client.Fail(client.KindRefused, "dump %q: must be the same on both stores, got sha256 %s and %s; find out which of them is the tenant's", name, sum, held)
			}
			continue
		}
		if err := copyDump(source, target, name, sum); err != nil {
			return report, err
		}
		report.Copied++
	}
	for tenant, at := range there.forgotten {
		if here.forgotten[tenant] == at {
			continue
		}
		if _, err := target.Output("forget " + tenant + " " + at); err != nil {
			return report, err
		}
		report.Forgotten++
	}
	return report, nil
}

type listing struct {
	// dumps is the hash of each dump, by "<tenant> <file>".
	dumps map[string]string
	// forgotten is when each deleted tenant was deleted.
	forgotten map[string]string
}

func list(store *client.Connection) (listing, error) {
	answer, err := store.Output("list")
	if err != nil {
		return listing{}, err
	}
	listed := listing{map[string]string{}, map[string]string{}}
	for line := range strings.Lines(answer) {
		words := strings.Split(strings.TrimSuffix(line, "\n"), " ")
		if len(words) != 3 {
			return listing{}, client.Fail(client.KindRefused, "store: must list three words a line, got %.100q; install the same receiver on both stores", line)
		}
		if words[1] == "forgotten" {
			listed.forgotten[words[0]] = words[2]
		} else {
			listed.dumps[words[0]+" "+words[1]] = words[2]
		}
	}
	return listed, nil
}

// copyDump pipes a dump from store to store; the target checks it against its manifest.
func copyDump(source, target *client.Connection, name, sum string) error {
	reader, writer := io.Pipe()
	sending, err := source.Start("send "+name, writer)
	if err != nil {
		return err
	}
	receiving, err := target.Start("receive "+name, nil)
	if err != nil {
		reader.Close()
		return err
	}
	go func() {
		err := sending.Finish()
		writer.CloseWithError(errOrEnd(err))
	}()
	if _, err := io.Copy(receiving, reader); err != nil {
		// Ends what still sends, once the connection is closed; nothing that was cut counts on the target.
		reader.CloseWithError(err)
		var failed *client.Failure
		if errors.As(err, &failed) {
			return err
		}
		return receiving.Failure(err)
	}
	return receiving.Confirm(sum)
}

func errOrEnd(err error) error {
	if err == nil {
		return io.EOF
	}
	return err
}
