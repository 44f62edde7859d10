package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
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
		"an unknown policy":    {"TWO_FACTOR_POLICY", "maybe", `setting "TWO_FACTOR_POLICY": must be off, optional or required, got "maybe"; set it in the Deployment`},
		"no authority":         {"DATABASE_CA_FILE", os.DevNull, `setting "DATABASE_CA_FILE": must name a file with a PEM certificate, got "/dev/null"; mount the Secret there`},
		"no password":          {"DATABASE_PASSWORD_FILE", "/nowhere", `setting "DATABASE_PASSWORD_FILE": must name a file with content, got "/nowhere"; mount the Secret there`},
		"no keys":              {"KEYS_DIRECTORY", "/nowhere", `setting "KEYS_DIRECTORY": keyring "/nowhere": must have a file "active", got none; write the active version into it`},
		"a short secret":       {"CONTRACT_DIRECTORY", files(t, short), `must have at least 32 bytes, got 6; make a longer one`},
		"a secret too few":     {"CONTRACT_DIRECTORY", files(t, noWebhook), `must be a readable file, got none; mount the Secret there`},
		"a wrong proxy range":  {"TRUSTED_PROXIES", "10.42.0.0", `setting "TRUSTED_PROXIES": must be address ranges by comma, got "10.42.0.0"; write them like 10.42.0.0/16`},
		"a session of seconds": {"SESSION_MAX_AGE_SECONDS", "5", `setting "SESSION_MAX_AGE_SECONDS": must be a number from 60 to 34560000, got "5"; set it in the Deployment`},
	}
	good := contract(t)
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
