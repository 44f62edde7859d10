package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

// Settings are the tenant contract as this application was handed it; ReadSettings has checked them.
type Settings struct {
	Tenant   string
	Plan     string
	Location string
	Listen   string
	// MQTTPort is 0 where the tenant has no MQTT.
	MQTTPort int

	Database DatabaseSettings

	PublicURL      string
	KeysFolder     string
	ContractFolder string
	FilesFolder    string
	Identity       Identity
	// Mail is nil where the tenant has no relay.
	Mail           *Mail
	Meters         Meters
	TrustedProxies []netip.Prefix
}

// DatabaseSettings say how to reach the tenant's own database: TLS 1.3, the server's name verified.
type DatabaseSettings struct {
	Host           string
	Port           uint16
	Name           string
	User           string
	PasswordFile   string
	OwnerRole      string
	MaxConnections int32
	tls            *tls.Config
}

// ReadSettings takes the contract from the environment, by lookup (os.LookupEnv in earnest).
//
//	TENANT                    the tenant's name
//	PLAN, LOCATION            shown and attested; default "unnamed"
//	LISTEN                    default :8080
//	MQTT_PORT                 where devices come in; default none, and then none does
//	DATABASE_HOST             name that the server's certificate carries
//	DATABASE_PORT             default 5432
//	DATABASE_NAME             the tenant's own database
//	DATABASE_USER             the application's role
//	DATABASE_PASSWORD_FILE    default /run/secrets/database/password; read for every new connection
//	DATABASE_CA_FILE          default /run/secrets/database/ca.crt
//	DATABASE_OWNER_ROLE       role that owns the tables; migrations take it on with SET ROLE; default none
//	DATABASE_MAX_CONNECTIONS  default 4
//	PUBLIC_URL                where people reach the tenant, and identity providers send them back to; default none
//	KEYS_DIRECTORY            default /run/secrets/keys; see Keyring
//	CONTRACT_DIRECTORY        default /run/secrets/contract; see Secrets
//	FILES_DIRECTORY           the tenant's volume; must be there; default none
//	DATA_RETENTION_DAYS, EXECUTIONS_PER_MONTH, REPLAYS_PER_MONTH
//	                          what the plan lets be kept and counted; default the smallest plan's, 7, 1000 and 100
//	REGISTRATION              "open" or "closed"; default closed
//	SECOND_FACTOR_ROLES       roles that must show a second factor, by comma; default operator
//	SESSION_DAYS              default 14
//	ACCESS_MINUTES            how long an access token is good for; default 60
//	REFRESH_DAYS              how long a refresh token is; default 30
//	IDENTITY_PROVIDERS        JSON list of what may be seen of them; see Provider; default none
//	MAIL_HOST                 relay for mail; default none, and then no mail is sent
//	MAIL_PORT                 default 587; never 25
//	MAIL_FROM                 address that mail comes from
//	MAIL_STARTTLS             "required", and nothing else; default required
//	CREDENTIALS_DIRECTORY     default /run/secrets/credentials; provider-<name>-id and provider-<name>-secret of each
//	                          provider but SAML's, mail-user and mail-password
//	TRUSTED_PROXIES           address ranges whose X-Forwarded-For counts, by comma; default none
//
// Every error names the setting, the rule and the way out, never a secret's value.
func ReadSettings(lookup func(string) (string, bool)) (Settings, error) {
	reader := settingsReader{lookup: lookup}
	settings := Settings{
		Tenant:   reader.text("TENANT", ""),
		Plan:     reader.text("PLAN", "unnamed"),
		Location: reader.text("LOCATION", "unnamed"),
		Listen:   reader.text("LISTEN", ":8080"),
		Database: DatabaseSettings{
			Host:           reader.text("DATABASE_HOST", ""),
			Port:           uint16(reader.number("DATABASE_PORT", 5432, 1, 65535)),
			Name:           reader.text("DATABASE_NAME", ""),
			User:           reader.text("DATABASE_USER", ""),
			PasswordFile:   reader.text("DATABASE_PASSWORD_FILE", "/run/secrets/database/password"),
			MaxConnections: int32(reader.number("DATABASE_MAX_CONNECTIONS", 4, 1, 1000)),
		},
		KeysFolder:     reader.text("KEYS_DIRECTORY", "/run/secrets/keys"),
		ContractFolder: reader.text("CONTRACT_DIRECTORY", "/run/secrets/contract"),
		Meters: Meters{
			DataRetentionDays:  reader.number("DATA_RETENTION_DAYS", 7, 1, 3650),
			ExecutionsPerMonth: reader.number("EXECUTIONS_PER_MONTH", 1000, 0, math.MaxInt32),
			ReplaysPerMonth:    reader.number("REPLAYS_PER_MONTH", 100, 0, math.MaxInt32),
		},
	}
	credentials := reader.text("CREDENTIALS_DIRECTORY", "/run/secrets/credentials")
	settings.Identity = readIdentity(&reader, credentials)
	settings.Mail = readMail(&reader, credentials)
	if port, _ := lookup("MQTT_PORT"); port != "" {
		settings.MQTTPort = reader.number("MQTT_PORT", 0, 1, 65535)
	}
	settings.PublicURL, _ = lookup("PUBLIC_URL")
	settings.FilesFolder, _ = lookup("FILES_DIRECTORY")
	settings.Database.OwnerRole, _ = lookup("DATABASE_OWNER_ROLE")

	caFile := reader.text("DATABASE_CA_FILE", "/run/secrets/database/ca.crt")
	authorities := x509.NewCertPool()
	if content, err := os.ReadFile(caFile); err != nil || !authorities.AppendCertsFromPEM(content) {
		reader.refuse("DATABASE_CA_FILE", "must name a file with a PEM certificate, got %q; mount the Secret there", caFile)
	}
	settings.Database.tls = &tls.Config{
		RootCAs:    authorities,
		ServerName: settings.Database.Host,
		MinVersion: tls.VersionTLS13,
	}
	if proxies, ok := lookup("TRUSTED_PROXIES"); ok && proxies != "" {
		for text := range strings.SplitSeq(proxies, ",") {
			prefix, err := netip.ParsePrefix(strings.TrimSpace(text))
			if err != nil {
				reader.refuse("TRUSTED_PROXIES", "must be address ranges by comma, got %q; write them like 10.42.0.0/16", text)
			}
			settings.TrustedProxies = append(settings.TrustedProxies, prefix)
		}
	}
	if len(reader.problems) == 0 {
		reader.check("KEYS_DIRECTORY", func() error { _, err := ReadKeyring(settings.KeysFolder); return err })
		reader.check("CONTRACT_DIRECTORY", func() error { _, err := ReadSecrets(settings.ContractFolder); return err })
		reader.check("DATABASE_PASSWORD_FILE", func() error { _, err := readPassword(settings.Database.PasswordFile); return err })
	}
	if len(reader.problems) > 0 {
		return Settings{}, reader.problems[0]
	}
	return settings, nil
}

type settingsReader struct {
	lookup   func(string) (string, bool)
	problems []error
}

func (r *settingsReader) refuse(name, rule string, values ...any) {
	r.problems = append(r.problems, fmt.Errorf("setting %q: %w", name, fmt.Errorf(rule, values...)))
}

func (r *settingsReader) text(name, otherwise string) string {
	value, ok := r.lookup(name)
	if !ok || value == "" {
		value = otherwise
	}
	if value == "" {
		r.refuse(name, "must be set, got nothing; set it in the Deployment")
	}
	return value
}

func (r *settingsReader) number(name string, otherwise, least, most int) int {
	text := r.text(name, strconv.Itoa(otherwise))
	number, err := strconv.Atoi(text)
	if err != nil || number < least || number > most {
		r.refuse(name, "must be a number from %d to %d, got %q; set it in the Deployment", least, most, text)
	}
	return number
}

func (r *settingsReader) check(name string, check func() error) {
	if err := check(); err != nil {
		r.refuse(name, "%w", err)
	}
}

func readPassword(path string) (string, error) {
	content, err := os.ReadFile(path)
	password := strings.TrimRight(string(content), "\r\n")
	if err != nil || password == "" {
		return "", fmt.Errorf("must name a file with content, got %q; mount the Secret there", path)
	}
	return password, nil
}
