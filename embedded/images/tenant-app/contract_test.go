package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"maps"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const operatorToken = "operator-token-of-thirty-two-bytes-and-more"

func secretFiles() map[string]string {
	return map[string]string{
		"session": strings.Repeat("s", 32),
		"token":   operatorToken,
		"webhook": strings.Repeat("w", 32),
	}
}

func bearer(token string) string {
	return "Bearer " + base64.StdEncoding.EncodeToString([]byte(token))
}

// authority is a certificate authority and a server certificate for localhost, as PEM.
type authority struct{ ca, certificate, key []byte }

func newAuthority(t *testing.T) authority {
	t.Helper()
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	caTemplate := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	ca, err := x509.CreateCertificate(rand.Reader, caTemplate, caTemplate, &caKey.PublicKey, caKey)
	if err != nil {
		t.Fatal(err)
	}
	serverKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, caTemplate, &serverKey.PublicKey, caKey)
	if err != nil {
		t.Fatal(err)
	}
	keyBytes, err := x509.MarshalPKCS8PrivateKey(serverKey)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(kind string, content []byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content})
	}
	return authority{encode("CERTIFICATE", ca), encode("CERTIFICATE", certificate), encode("PRIVATE KEY", keyBytes)}
}

// contract is an environment as the platform hands it over, with its files.
func contract(t *testing.T) map[string]string {
	t.Helper()
	database := files(t, map[string]string{"password": "canary-password", "ca.crt": string(newAuthority(t).ca)})
	return map[string]string{
		"TENANT":                 "acme",
		"DATABASE_HOST":          "localhost",
		"DATABASE_NAME":          "acme",
		"DATABASE_USER":          "acme_app",
		"DATABASE_PASSWORD_FILE": filepath.Join(database, "password"),
		"DATABASE_CA_FILE":       filepath.Join(database, "ca.crt"),
		"KEYS_DIRECTORY":         files(t, map[string]string{"settings-1": string(key(1)), "active": "1"}),
		"CONTRACT_DIRECTORY":     files(t, secretFiles()),
	}
}

// identityContract is what the platform hands over beside for a tenant with a provider of each kind and a relay.
func identityContract(t *testing.T) map[string]string {
	t.Helper()
	block, _ := pem.Decode(newAuthority(t).certificate)
	providers, err := json.Marshal([]Provider{
		{Kind: "oidc", Name: "work", Issuer: "https://login.example.com"},
		{Kind: "oauth2", Name: "git", AuthorizeURL: "https://git.example.com/authorize", TokenURL: "https://git.example.com/token"},
		{Kind: "saml", Name: "partner", EntityID: "urn:partner", SSOURL: "https://partner.example.com", Certificate: base64.StdEncoding.EncodeToString(block.Bytes)},
		{Kind: "ldap", Name: "directory", URL: "ldaps://directory.example.com", BaseDN: "dc=example,dc=com"},
	})
	if err != nil {
		t.Fatal(err)
	}
	credentials := map[string]string{}
	for _, name := range []string{"provider-work-id", "provider-work-secret", "provider-git-id", "provider-git-secret", "provider-directory-id", "provider-directory-secret", "mail-user", "mail-password"} {
		credentials[name] = "canary " + name
	}
	return map[string]string{
		"REGISTRATION":          "open",
		"SECOND_FACTOR_ROLES":   "operator,owner",
		"SESSION_DAYS":          "7",
		"ACCESS_MINUTES":        "15",
		"REFRESH_DAYS":          "10",
		"DATA_RETENTION_DAYS":   "90",
		"EXECUTIONS_PER_MONTH":  "500000",
		"REPLAYS_PER_MONTH":     "50000",
		"IDENTITY_PROVIDERS":    string(providers),
		"MAIL_HOST":             "smtp.example.com",
		"MAIL_PORT":             "587",
		"MAIL_FROM":             "billing@acme.example",
		"MAIL_STARTTLS":         "required",
		"CREDENTIALS_DIRECTORY": files(t, credentials),
		"PUBLIC_URL":            "https://acme.tenants.test",
	}
}

func reading(environment map[string]string) (Settings, error) {
	return ReadSettings(func(name string) (string, bool) {
		value, ok := environment[name]
		return value, ok
	})
}

func settings(t *testing.T, environment map[string]string) Settings {
	t.Helper()
	read, err := reading(environment)
	if err != nil {
		t.Fatal(err)
	}
	return read
}

func TestReadSettingsNamesTheWrongOneAndNoSecret(t *testing.T) {
	short := secretFiles()
	short["session"] = "canary"
	noWebhook := secretFiles()
	delete(noWebhook, "webhook")
	cases := map[string]struct{ name, value, want string }{
		"no tenant":            {"TENANT", "", `setting "TENANT": must be set, got nothing; set it in the Deployment`},
		"a wrong port":         {"DATABASE_PORT", "0", `setting "DATABASE_PORT": must be a number from 1 to 65535, got "0"; set it in the Deployment`},
		"a half-open door":     {"REGISTRATION", "maybe", `setting "REGISTRATION": must be open or closed, got "maybe"; set it in the Deployment`},
		"no role":              {"SECOND_FACTOR_ROLES", "operator,", `setting "SECOND_FACTOR_ROLES": must be roles by comma, got ""; write them like operator,owner`},
		"no retention":         {"DATA_RETENTION_DAYS", "0", `setting "DATA_RETENTION_DAYS": must be a number from 1 to 3650, got "0"; set it in the Deployment`},
		"no list":              {"IDENTITY_PROVIDERS", "{}", `setting "IDENTITY_PROVIDERS": must be a JSON list of identity providers, got what is none`},
		"a provider too many":  {"IDENTITY_PROVIDERS", `[{"kind":"oidc","name":"work","issuer":"https://a.test"},{"kind":"oidc","name":"work"}]`, `must name each provider once, in at most 40 small letters, digits and hyphens, got "work"`},
		"a provider's path":    {"IDENTITY_PROVIDERS", `[{"kind":"oidc","name":"../keys"}]`, `must name each provider once, in at most 40 small letters, digits and hyphens, got "../keys"`},
		"an unknown kind":      {"IDENTITY_PROVIDERS", `[{"kind":"kerberos","name":"work"}]`, `provider "work" must be of kind oidc, oauth2, saml or ldap, got "kerberos"; correct it in the Deployment`},
		"no issuer":            {"IDENTITY_PROVIDERS", `[{"kind":"oidc","name":"work"}]`, `provider "work" must have issuer, got none; set it in the Deployment`},
		"no certificate":       {"IDENTITY_PROVIDERS", `[{"kind":"saml","name":"work","entityId":"e","ssoUrl":"s","certificate":"bm8="}]`, `provider "work" must have an X.509 certificate in base64, got what is none; correct it in the Deployment`},
		"no provider's secret": {"IDENTITY_PROVIDERS", `[{"kind":"oidc","name":"other","issuer":"https://a.test"}]`, `provider-other-id"; mount the Secret there`},
		"no sender":            {"MAIL_FROM", "", `setting "MAIL_FROM": must be set, got nothing; set it in the Deployment`},
		"mail in clear":        {"MAIL_STARTTLS", "optional", `setting "MAIL_STARTTLS": must be required, got "optional"; leave it out of the Deployment or set it so`},
		"mail's old port":      {"MAIL_PORT", "25", `setting "MAIL_PORT": must be a number from 26 to 65535, got "25"; set it in the Deployment`},
		"no credentials":       {"CREDENTIALS_DIRECTORY", "/nowhere", `must name a file with content, got "/nowhere/`},
		"no authority":         {"DATABASE_CA_FILE", os.DevNull, `setting "DATABASE_CA_FILE": must name a file with a PEM certificate, got "/dev/null"; mount the Secret there`},
		"no password":          {"DATABASE_PASSWORD_FILE", "/nowhere", `setting "DATABASE_PASSWORD_FILE": must name a file with content, got "/nowhere"; mount the Secret there`},
		"no keys":              {"KEYS_DIRECTORY", "/nowhere", `setting "KEYS_DIRECTORY": keyring "/nowhere": must have a file "active", got none; write the active version into it`},
		"a short secret":       {"CONTRACT_DIRECTORY", files(t, short), `must have at least 32 bytes, got 6; make a longer one`},
		"a secret too few":     {"CONTRACT_DIRECTORY", files(t, noWebhook), `must be a readable file, got none; mount the Secret there`},
		"a wrong proxy range":  {"TRUSTED_PROXIES", "10.42.0.0", `setting "TRUSTED_PROXIES": must be address ranges by comma, got "10.42.0.0"; write them like 10.42.0.0/16`},
		"a session of no day":  {"SESSION_DAYS", "0", `setting "SESSION_DAYS": must be a number from 1 to 400, got "0"; set it in the Deployment`},
	}
	good := contract(t)
	maps.Copy(good, identityContract(t))
	for name, spoiled := range cases {
		t.Run(name, func(t *testing.T) {
			environment := maps.Clone(good)
			environment[spoiled.name] = spoiled.value
			_, err := reading(environment)
			if err == nil || !strings.Contains(err.Error(), spoiled.want) || strings.Contains(err.Error(), "canary") {
				t.Fatalf("got %v\nwant %s", err, spoiled.want)
			}
		})
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}
