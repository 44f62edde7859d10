package sender

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"fluxbilling/embedded/images/backup/internal/client"
)

const (
	password  = "canary-password"
	recipient = "age1lggyhqrw2nlhcxprm67z43rta597azn8gknawjehu9d9dl0jq3yqqvfafg"
)

func good(t *testing.T) map[string]string {
	t.Helper()
	folder := t.TempDir()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	hostKey, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	file := func(name, content string) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return map[string]string{
		"TENANT":                 "acme",
		"DATABASE_HOST":          "db.example",
		"DATABASE_NAME":          "acme",
		"DATABASE_USER":          "acme_backup",
		"DATABASE_PASSWORD_FILE": file("password", password+"\n"),
		"DATABASE_CA_FILE":       file("ca.crt", "certificates"),
		"STORE_HOST":             "store.example",
		"STORE_HOST_KEY":         strings.TrimSpace(string(ssh.MarshalAuthorizedKey(hostKey))),
		"STORE_KEY_FILE":         file("id_ed25519", string(pem.EncodeToMemory(block))),
		"RECIPIENTS":             recipient,
	}
}

func reading(environment map[string]string) (Settings, error) {
	return ReadSettings(func(name string) (string, bool) {
		value, ok := environment[name]
		return value, ok
	})
}

func TestReadSettingsFillsInDefaults(t *testing.T) {
	settings, err := reading(good(t))
	if err != nil {
		t.Fatal(err)
	}
	got := []string{settings.DatabasePort, settings.Store.Port, settings.Store.User, string(settings.databasePassword)}
	if strings.Join(got, " ") != "5432 22 backup "+password {
		t.Fatalf("got %v", got)
	}
}

func TestReadSettingsNamesTheWrongOneAndNoSecret(t *testing.T) {
	secretFile := func(content string) string {
		path := filepath.Join(t.TempDir(), "secret")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	cases := map[string]struct{ name, value, want string }{
		"no tenant":         {"TENANT", "", `setting "TENANT": must be one line of text, got ""; set it in the CronJob`},
		"a tenant's path":   {"TENANT", "../other", `setting "TENANT": must be a DNS label, got "../other"; set it in the CronJob`},
		"a wrong port":      {"DATABASE_PORT", "70000", `setting "DATABASE_PORT": must be a port from 1 to 65535, got "70000"; set it in the CronJob`},
		"no password":       {"DATABASE_PASSWORD_FILE", "/nowhere", `setting "DATABASE_PASSWORD_FILE": must name a file with content, got "/nowhere"; mount the Secret there`},
		"two passwords":     {"DATABASE_PASSWORD_FILE", secretFile("canary-one\ncanary-two"), `setting "DATABASE_PASSWORD_FILE": must hold one line, got more; write the password alone`},
		"no authority":      {"DATABASE_CA_FILE", "/nowhere", `setting "DATABASE_CA_FILE": must name a file with content, got "/nowhere"; mount the Secret there`},
		"a broken host key": {"STORE_HOST_KEY", "ssh-ed25519 AAAA", `setting "STORE_HOST_KEY": must be one public key like "ssh-ed25519 AAAA…", got "ssh-ed25519 AAAA"; copy it from the store's known_hosts line`},
		"no backup key":     {"RECIPIENTS", "age1canary", `setting "RECIPIENTS": must hold public backup keys "age1…", parted by commas, got "age1canary"; set it in the CronJob`},
		"a broken key":      {"STORE_KEY_FILE", secretFile("canary-key"), `setting "STORE_KEY_FILE": must hold an ed25519 private key in OpenSSH format without passphrase, got something else; make it with ssh-keygen -t ed25519 -N ''`},
	}
	for name, spoiled := range cases {
		t.Run(name, func(t *testing.T) {
			environment := maps.Clone(good(t))
			environment[spoiled.name] = spoiled.value
			_, err := reading(environment)
			var failure *client.Failure
			if !errors.As(err, &failure) || failure.Kind != client.KindSettings || err.Error() != spoiled.want {
				t.Fatalf("got %v\nwant %s", err, spoiled.want)
			}
			if strings.Contains(err.Error(), "canary-") {
				t.Fatalf("a secret shows in %v", err)
			}
		})
	}
}

func TestEscapeForPassfileKeepsThePasswordOneField(t *testing.T) {
	if got := escapeForPassfile([]byte(`a:b\c`)); got != `a\:b\\c` {
		t.Fatalf("got %s", got)
	}
}
