package sender

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"

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

	StoreHost    string
	StorePort    string
	StoreUser    string
	storeHostKey ssh.PublicKey
	storeKey     ssh.Signer

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
//	STORE_HOST, STORE_PORT  the backup store's SSH; port default 22
//	STORE_USER              default backup
//	STORE_HOST_KEY          the store's host key, as in known_hosts without the name: "ssh-ed25519 AAAA…"
//	STORE_KEY_FILE          OpenSSH private key, ed25519; default /run/secrets/store/id_ed25519
//	STORE_CERTIFICATE_FILE  OpenSSH certificate for that key, where the store trusts an authority; default none
//	PG_DUMP                 default /usr/lib/postgresql/15/bin/pg_dump
//
// Every error names the setting, the rule and the way out, never a secret's value.
func ReadSettings(lookup func(string) (string, bool)) (Settings, error) {
	var problems []error
	text := func(name, otherwise string) string {
		value, ok := lookup(name)
		if !ok || value == "" {
			value = otherwise
		}
		if value == "" || strings.ContainsAny(value, "\n\x00") {
			problems = append(problems, fmt.Errorf("setting %q: must be one line of text, got %q; set it in the CronJob", name, value))
		}
		return value
	}
	port := func(name, otherwise string) string {
		value := text(name, otherwise)
		if number, err := strconv.Atoi(value); err != nil || number < 1 || number > 65535 {
			problems = append(problems, fmt.Errorf("setting %q: must be a port from 1 to 65535, got %q; set it in the CronJob", name, value))
		}
		return value
	}
	file := func(name, otherwise string) []byte {
		path := text(name, otherwise)
		content, err := os.ReadFile(path)
		if err != nil || len(bytes.TrimSpace(content)) == 0 {
			problems = append(problems, fmt.Errorf("setting %q: must name a file with content, got %q; mount the Secret there", name, path))
		}
		return content
	}

	settings := Settings{
		Tenant:         text("TENANT", ""),
		DatabaseHost:   text("DATABASE_HOST", ""),
		DatabasePort:   port("DATABASE_PORT", "5432"),
		DatabaseName:   text("DATABASE_NAME", ""),
		DatabaseUser:   text("DATABASE_USER", ""),
		DatabaseCAFile: text("DATABASE_CA_FILE", "/run/secrets/database/ca.crt"),
		StoreHost:      text("STORE_HOST", ""),
		StorePort:      port("STORE_PORT", "22"),
		StoreUser:      text("STORE_USER", "backup"),
		PgDump:         text("PG_DUMP", "/usr/lib/postgresql/15/bin/pg_dump"),
	}
	if settings.Tenant != "" && !wire.IsTenant(settings.Tenant) {
		problems = append(problems, fmt.Errorf("setting \"TENANT\": must be a DNS label, got %.80q; set it in the CronJob", settings.Tenant))
	}
	if authorities, err := os.ReadFile(settings.DatabaseCAFile); err != nil || len(authorities) == 0 {
		problems = append(problems, fmt.Errorf("setting \"DATABASE_CA_FILE\": must name a file with content, got %q; mount the Secret there", settings.DatabaseCAFile))
	}
	settings.databasePassword = bytes.TrimRight(file("DATABASE_PASSWORD_FILE", "/run/secrets/database/password"), "\r\n")
	if bytes.ContainsAny(settings.databasePassword, "\n\x00") {
		problems = append(problems, errors.New("setting \"DATABASE_PASSWORD_FILE\": must hold one line, got more; write the password alone"))
	}

	hostKey := text("STORE_HOST_KEY", "")
	key, _, _, rest, err := ssh.ParseAuthorizedKey([]byte(hostKey))
	if hostKey != "" && (err != nil || len(rest) != 0) {
		problems = append(problems, fmt.Errorf("setting \"STORE_HOST_KEY\": must be one public key like \"ssh-ed25519 AAAA…\", got %.40q; copy it from the store's known_hosts line", hostKey))
	}
	settings.storeHostKey = key
	if content := file("STORE_KEY_FILE", "/run/secrets/store/id_ed25519"); len(bytes.TrimSpace(content)) != 0 {
		signer, err := ssh.ParsePrivateKey(content)
		if err != nil || signer.PublicKey().Type() != ssh.KeyAlgoED25519 {
			problems = append(problems, errors.New("setting \"STORE_KEY_FILE\": must hold an ed25519 private key in OpenSSH format without passphrase, got something else; make it with ssh-keygen -t ed25519 -N ''"))
		} else if path, ok := lookup("STORE_CERTIFICATE_FILE"); ok && path != "" {
			if signer, err = certified(signer, path); err != nil {
				problems = append(problems, err)
			}
		}
		settings.storeKey = signer
	}
	if len(problems) > 0 {
		return Settings{}, &Failure{Kind: KindSettings, err: problems[0]}
	}
	return settings, nil
}

// certified makes the key show the certificate in the file.
func certified(key ssh.Signer, path string) (ssh.Signer, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("setting \"STORE_CERTIFICATE_FILE\": must name a file with content, got %q; mount the Secret there", path)
	}
	public, _, _, _, err := ssh.ParseAuthorizedKey(content)
	certificate, ok := public.(*ssh.Certificate)
	if err != nil || !ok {
		return nil, fmt.Errorf("setting \"STORE_CERTIFICATE_FILE\": must name an OpenSSH certificate, got another content in %q; sign the public key with ssh-keygen -s", path)
	}
	signer, err := ssh.NewCertSigner(certificate, key)
	if err != nil {
		return nil, fmt.Errorf("setting \"STORE_CERTIFICATE_FILE\": must be for the key in STORE_KEY_FILE, got one for another key in %q; sign that key's public half", path)
	}
	return signer, nil
}
