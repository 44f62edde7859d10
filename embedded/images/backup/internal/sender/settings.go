package sender

import (
	"bytes"
	"os"

	"fluxbilling/embedded/images/backup/internal/client"
	"fluxbilling/embedded/images/backup/internal/seal"
	"fluxbilling/embedded/images/backup/internal/wire"
)

// Settings are what one backup needs to know; ReadSettings has checked them.
type Settings struct {
	Tenant string

	DatabaseHost     string
	DatabasePort     string
	DatabaseName     string
	DatabaseUser     string
	DatabaseCAFile   string
	databasePassword []byte

	Store client.Store
	// Recipients are the backup keys that can open the dump.
	Recipients seal.Recipients

	// PgDump is the program that dumps.
	PgDump string
}

// ReadSettings takes the settings from the environment, by lookup (os.LookupEnv in earnest).
//
//	TENANT                  name of the tenant, a DNS label
//	DATABASE_HOST           name that the server's certificate carries
//	DATABASE_PORT           default 5432
//	DATABASE_NAME           the one database to dump
//	DATABASE_USER           the tenant's backup role
//	DATABASE_PASSWORD_FILE  default /run/secrets/database/password
//	DATABASE_CA_FILE        default /run/secrets/database/ca.crt
//	STORE_*                 the backup store, see client.Environment.Store; key default /run/secrets/store/id_ed25519
//	RECIPIENTS              backup keys that the dump is encrypted to, "age1…", parted by commas
//	PG_DUMP                 default /usr/lib/postgresql/15/bin/pg_dump
//
// Every error names the setting, the rule and the way out, never a secret's value.
func ReadSettings(lookup func(string) (string, bool)) (Settings, error) {
	environment := client.ReadEnvironment(lookup)
	settings := Settings{
		Tenant:         environment.Text("TENANT", ""),
		DatabaseHost:   environment.Text("DATABASE_HOST", ""),
		DatabasePort:   environment.Port("DATABASE_PORT", "5432"),
		DatabaseName:   environment.Text("DATABASE_NAME", ""),
		DatabaseUser:   environment.Text("DATABASE_USER", ""),
		DatabaseCAFile: environment.Text("DATABASE_CA_FILE", "/run/secrets/database/ca.crt"),
		PgDump:         environment.Text("PG_DUMP", "/usr/lib/postgresql/15/bin/pg_dump"),
	}
	if settings.Tenant != "" && !wire.IsTenant(settings.Tenant) {
		environment.Fault("setting \"TENANT\": must be a DNS label, got %.80q; set it in the CronJob", settings.Tenant)
	}
	if authorities, err := os.ReadFile(settings.DatabaseCAFile); err != nil || len(authorities) == 0 {
		environment.Fault("setting \"DATABASE_CA_FILE\": must name a file with content, got %q; mount the Secret there", settings.DatabaseCAFile)
	}
	settings.databasePassword = bytes.TrimRight(environment.File("DATABASE_PASSWORD_FILE", "/run/secrets/database/password"), "\r\n")
	if bytes.ContainsAny(settings.databasePassword, "\n\x00") {
		environment.Fault("setting \"DATABASE_PASSWORD_FILE\": must hold one line, got more; write the password alone")
	}
	settings.Store = environment.Store("STORE_", "/run/secrets/store/id_ed25519")
	recipients, err := seal.ParseRecipients(environment.Text("RECIPIENTS", ""))
	if err != nil {
		environment.Fault("setting \"RECIPIENTS\": %w; set it in the CronJob", err)
	}
	settings.Recipients = recipients
	return settings, environment.Failure()
}
