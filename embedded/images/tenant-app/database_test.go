package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	postgresBin = "/usr/lib/postgresql/15/bin"
	appPassword = `pass'word:with\odd "characters"`
)

// cluster is a temporary PostgreSQL that takes TLS 1.3 and SCRAM only over TCP; its superuser comes by socket.
type cluster struct {
	socket string
	port   int
	ca     []byte
}

// startCluster runs a server of this test's own, ended with the test. Like every PostgreSQL it refuses to
// run as root, and runs as the distribution's user then.
func startCluster(t *testing.T) cluster {
	t.Helper()
	folder, err := os.MkdirTemp("/tmp", "pg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	made := newAuthority(t)
	for name, content := range map[string][]byte{"server.crt": made.certificate, "server.key": made.key} {
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	attributes := &syscall.SysProcAttr{Pdeathsig: syscall.SIGQUIT}
	if os.Getuid() == 0 {
		attributes.Credential = ownedByPostgres(t, folder)
	}
	data := filepath.Join(folder, "data")
	initialise := exec.Command(postgresBin+"/initdb", "-D", data, "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C")
	initialise.SysProcAttr = &syscall.SysProcAttr{Credential: attributes.Credential}
	initialise.Dir = folder
	if output, err := initialise.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v: %s", err, output)
	}
	rules := "local all postgres trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n"
	if err := os.WriteFile(filepath.Join(data, "pg_hba.conf"), []byte(rules), 0o644); err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	server := exec.Command(postgresBin+"/postgres", "-D", data, "-k", folder, "-p", strconv.Itoa(port),
		"-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "ssl=on", "-c", "ssl_min_protocol_version=TLSv1.3",
		"-c", "ssl_cert_file="+filepath.Join(folder, "server.crt"), "-c", "ssl_key_file="+filepath.Join(folder, "server.key"))
	server.SysProcAttr = attributes
	server.Dir = folder
	output := &bytes.Buffer{}
	server.Stdout, server.Stderr = output, output
	// The server dies with the thread that started it, so that thread has to stay.
	runtime.LockOSThread()
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		server.Process.Signal(syscall.SIGQUIT)
		server.Wait()
	})
	running := cluster{folder, port, made.ca}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		connection, err := pgx.Connect(context.Background(), running.superuser("postgres"))
		if err == nil {
			connection.Close(context.Background())
			return running
		}
		if time.Now().After(deadline) {
			t.Fatalf("PostgreSQL: %v: %s", err, output)
		}
	}
}

func ownedByPostgres(t *testing.T, folder string) *syscall.Credential {
	t.Helper()
	account, err := user.Lookup("postgres")
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(account.Uid)
	gid, _ := strconv.Atoi(account.Gid)
	for _, path := range []string{folder, filepath.Join(folder, "server.crt"), filepath.Join(folder, "server.key")} {
		if err := os.Chown(path, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

func (c cluster) superuser(database string) string {
	return fmt.Sprintf("host=%s port=%d user=postgres dbname=%s", c.socket, c.port, database)
}

func (c cluster) run(t *testing.T, database string, statements ...string) {
	t.Helper()
	connection, err := pgx.Connect(context.Background(), c.superuser(database))
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close(context.Background())
	for _, statement := range statements {
		if _, err := connection.Exec(context.Background(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

// makeTenant sets a tenant's database up as the platform does: its own owner, application and backup roles.
func (c cluster) makeTenant(t *testing.T, tenant string) map[string]string {
	t.Helper()
	quoted := "'" + strings.ReplaceAll(appPassword, "'", "''") + "'"
	c.run(t, "postgres",
		`CREATE ROLE `+tenant+`_owner NOLOGIN`,
		`CREATE ROLE `+tenant+`_app LOGIN NOINHERIT NOBYPASSRLS IN ROLE `+tenant+`_owner PASSWORD `+quoted,
		`CREATE DATABASE `+tenant,
		`REVOKE ALL ON DATABASE `+tenant+` FROM PUBLIC`,
		`GRANT CONNECT ON DATABASE `+tenant+` TO `+tenant+`_app`)
	c.run(t, tenant,
		`REVOKE ALL ON SCHEMA public FROM PUBLIC`,
		`CREATE SCHEMA app AUTHORIZATION `+tenant+`_owner`)
	environment := contract(t)
	database := files(t, map[string]string{"password": appPassword, "ca.crt": string(c.ca)})
	maps.Copy(environment, map[string]string{
		"TENANT":                 tenant,
		"DATABASE_PORT":          strconv.Itoa(c.port),
		"DATABASE_NAME":          tenant,
		"DATABASE_USER":          tenant + "_app",
		"DATABASE_OWNER_ROLE":    tenant + "_owner",
		"DATABASE_PASSWORD_FILE": filepath.Join(database, "password"),
		"DATABASE_CA_FILE":       filepath.Join(database, "ca.crt"),
	})
	return environment
}

// application is the whole server on a real database.
type application struct {
	t        *testing.T
	server   *Server
	database *Database
	handler  http.Handler
}

func startApplication(t *testing.T, environment map[string]string) application {
	t.Helper()
	read := settings(t, environment)
	database, err := OpenDatabase(read.Database, read.Tenant)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(database.Close)
	if err := database.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	server := NewServer(read, database, slog.New(slog.NewTextHandler(io.Discard, nil)), func() time.Time { return start })
	server.SetMigrated(nil)
	return application{t, server, database, server.Handler()}
}

func (a application) call(method, path, body string, want int) *httptest.ResponseRecorder {
	a.t.Helper()
	request := httptest.NewRequest(method, path, strings.NewReader(body))
	request.Header.Set("Authorization", bearer(operatorToken))
	recorder := httptest.NewRecorder()
	a.handler.ServeHTTP(recorder, request)
	if recorder.Code != want {
		a.t.Fatalf("%s %s: got %d, want %d: %s", method, path, recorder.Code, want, recorder.Body)
	}
	return recorder
}

func (a application) callJSON(method, path string) map[string]any {
	a.t.Helper()
	var value map[string]any
	if err := json.Unmarshal(a.call(method, path, "", 200).Body.Bytes(), &value); err != nil {
		a.t.Fatal(err)
	}
	return value
}

func TestApplicationOnARealDatabase(t *testing.T) {
	postgres := startCluster(t)

	t.Run("keeps settings encrypted, rows to their tenant, and attests to it", func(t *testing.T) {
		environment := postgres.makeTenant(t, "alpha")
		app := startApplication(t, environment)
		app.call(http.MethodPut, "/settings/smtp.password", "canary-value", 204)
		if got := app.call(http.MethodGet, "/settings/smtp.password", "", 200).Body.String(); got != "canary-value" {
			t.Fatalf("got %q", got)
		}
		app.call(http.MethodGet, "/settings/none", "", 404)
		app.call(http.MethodPut, "/settings/UPPER", "x", 400)
		app.call(http.MethodPut, "/settings/large", strings.Repeat("x", maxSettingBytes+1), 413)
		app.call(http.MethodPost, "/records?subject=ann", `{"amount":1}`, 200)
		app.call(http.MethodPost, "/records?subject=ann", `not JSON`, 400)

		dump, err := exec.Command(postgresBin+"/pg_dump", "-h", postgres.socket, "-p", strconv.Itoa(postgres.port), "-U", "postgres", "alpha").Output()
		if err != nil {
			t.Fatal(err)
		}
		for _, canary := range []string{"canary-value", hex.EncodeToString([]byte("canary-value")), hex.EncodeToString(key(1))} {
			if bytes.Contains(dump, []byte(canary)) {
				t.Errorf("%s is in the dump", canary)
			}
		}

		attested := app.callJSON(http.MethodGet, "/attest")
		facts := attested["database"].(map[string]any)
		if facts["tlsVersion"] != "TLSv1.3" || facts["isSuperuser"] != false || facts["bypassesRowLevelSecurity"] != false || facts["role"] != "alpha_app" {
			t.Errorf("got %v", facts)
		}
		secured := facts["tables"].([]any)
		if len(secured) != len(tables) {
			t.Errorf("got %d tables, want %d", len(secured), len(tables))
		}
		for _, table := range secured {
			if table := table.(map[string]any); table["enabled"] != true || table["forced"] != true || table["policies"] != float64(1) {
				t.Errorf("got %v", table)
			}
		}
		encryption := attested["encryption"].(map[string]any)
		keys := encryption["keys"].([]any)
		if encryption["algorithm"] != "AES-256-GCM" || len(keys) != 1 || keys[0].(map[string]any)["settings"] != float64(1) {
			t.Errorf("got %v", encryption)
		}
	})

	t.Run("shows a session without the tenant's name no row, the owner included", func(t *testing.T) {
		connection, err := pgx.Connect(t.Context(), postgres.superuser("alpha"))
		if err != nil {
			t.Fatal(err)
		}
		defer connection.Close(context.Background())
		for _, role := range []string{"alpha_app", "alpha_owner"} {
			for tenant, want := range map[string]int{"": 0, "beta": 0, "alpha": 1} {
				var count int
				if _, err := connection.Exec(t.Context(), "RESET ROLE"); err != nil {
					t.Fatal(err)
				}
				if _, err := connection.Exec(t.Context(), "SELECT set_config('app.tenant', $1, false)", tenant); err != nil {
					t.Fatal(err)
				}
				if _, err := connection.Exec(t.Context(), "SET ROLE "+role); err != nil {
					t.Fatal(err)
				}
				if err := connection.QueryRow(t.Context(), "SELECT count(*) FROM app.records").Scan(&count); err != nil || count != want {
					t.Errorf("%s as %q: got %d rows, %v, want %d", role, tenant, count, err, want)
				}
			}
		}
	})

	t.Run("makes its tables once, however many replicas start", func(t *testing.T) {
		read := settings(t, postgres.makeTenant(t, "replicas"))
		failures := make(chan error)
		for range 4 {
			go func() {
				database, err := OpenDatabase(read.Database, read.Tenant)
				if err == nil {
					err = database.Migrate(context.Background())
					database.Close()
				}
				failures <- err
			}()
		}
		for range 4 {
			if err := <-failures; err != nil {
				t.Error(err)
			}
		}
	})

	t.Run("changes keys in batches, goes on after a cut, and leaves nothing behind", func(t *testing.T) {
		environment := postgres.makeTenant(t, "rotation")
		before := startApplication(t, environment)
		for number := range 25 {
			before.call(http.MethodPut, fmt.Sprintf("/settings/name-%02d", number), fmt.Sprintf("value-%02d", number), 204)
		}
		before.call(http.MethodPost, "/reencrypt?from=1&to=2", "", 400)
		environment["KEYS_DIRECTORY"] = files(t, map[string]string{"settings-1": string(key(1)), "settings-2": string(key(2)), "active": "2"})
		during := startApplication(t, environment)
		during.call(http.MethodPost, "/reencrypt?from=2&to=1", "", 400)
		during.call(http.MethodPost, "/reencrypt?from=1&to=1", "", 400)
		during.call(http.MethodPost, "/reencrypt?from=1&to=2&batch=0", "", 400)
		first := during.callJSON(http.MethodPost, "/reencrypt?from=1&to=2&batch=10")
		if first["inBatch"] != float64(10) || first["remaining"] != float64(15) || first["complete"] != false || first["lastName"] != "name-09" {
			t.Fatalf("got %v", first)
		}
		// Another process goes on, and one row cannot be opened: that batch changes nothing.
		resumed := startApplication(t, environment)
		postgres.run(t, "rotation", `UPDATE app.settings SET value = set_byte(value, 30, get_byte(value, 30) # 1) WHERE name = 'name-15'`)
		resumed.call(http.MethodPost, "/reencrypt?from=1&to=2&batch=10", "", 500)
		postgres.run(t, "rotation", `UPDATE app.settings SET value = set_byte(value, 30, get_byte(value, 30) # 1) WHERE name = 'name-15'`)
		second := resumed.callJSON(http.MethodPost, "/reencrypt?from=1&to=2&batch=10")
		third := resumed.callJSON(http.MethodPost, "/reencrypt?from=1&to=2&batch=10")
		if second["done"] != float64(20) || third["done"] != float64(25) || third["complete"] != true || third["remaining"] != float64(0) {
			t.Fatalf("got %v, %v", second, third)
		}
		environment["KEYS_DIRECTORY"] = files(t, map[string]string{"settings-2": string(key(2)), "active": "2"})
		after := startApplication(t, environment)
		for number := range 25 {
			if got := after.call(http.MethodGet, fmt.Sprintf("/settings/name-%02d", number), "", 200).Body.String(); got != fmt.Sprintf("value-%02d", number) {
				t.Fatalf("got %q", got)
			}
		}
	})

	t.Run("exports everything, erases a subject, and signs what was used", func(t *testing.T) {
		app := startApplication(t, postgres.makeTenant(t, "portable"))
		app.call(http.MethodPut, "/settings/a", "value", 204)
		for _, subject := range []string{"ann", "bob", "ann"} {
			app.call(http.MethodPost, "/records?subject="+subject, `{"n": 1}`, 200)
		}
		lines := strings.Split(strings.TrimSpace(app.call(http.MethodGet, "/export", "", 200).Body.String()), "\n")
		if len(lines) != 6 || lines[0] != `{"at":"2026-01-02T03:04:05Z","kind":"export","tenant":"portable"}` ||
			lines[1] != `{"kind":"setting","name":"a","valueBase64":"dmFsdWU="}` || lines[5] != `{"kind":"end","records":3,"settings":1}` {
			t.Fatalf("got %v", lines)
		}
		if got := app.callJSON(http.MethodPost, "/erase?subject=ann"); got["erased"] != float64(2) {
			t.Fatalf("got %v", got)
		}
		if got := app.callJSON(http.MethodPost, "/erase?subject=ann"); got["erased"] != float64(0) {
			t.Fatalf("got %v", got)
		}
		answer := app.call(http.MethodGet, "/usage", "", 200)
		body := answer.Body.String()
		want := "t=1767323045,v1=" + hex.EncodeToString(sign([]byte(strings.Repeat("w", 32)), "1767323045."+body))
		if got := answer.Header().Get("Usage-Signature"); got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
		var used map[string]any
		if err := json.Unmarshal([]byte(body), &used); err != nil {
			t.Fatal(err)
		}
		if used["records"] != float64(1) || used["settings"] != float64(1) || used["requests"] != float64(8) || used["day"] != "2026-01-02" {
			t.Fatalf("got %v", used)
		}
	})

	t.Run("is refused by a server whose name or authority is another", func(t *testing.T) {
		environment := postgres.makeTenant(t, "strict")
		for name, change := range map[string][2]string{
			"another name":      {"DATABASE_HOST", "127.0.0.1"},
			"another authority": {"DATABASE_CA_FILE", contract(t)["DATABASE_CA_FILE"]},
		} {
			spoiled := maps.Clone(environment)
			spoiled[change[0]] = change[1]
			read := settings(t, spoiled)
			database, err := OpenDatabase(read.Database, read.Tenant)
			if err != nil {
				t.Fatal(err)
			}
			if err := database.Migrate(t.Context()); err == nil || !strings.Contains(err.Error(), "tls:") && !strings.Contains(err.Error(), "x509:") {
				t.Errorf("%s: got %v", name, err)
			}
			database.Close()
		}
	})

	t.Run("waits without tables where it may not make them", func(t *testing.T) {
		environment := postgres.makeTenant(t, "waiting")
		delete(environment, "DATABASE_OWNER_ROLE")
		read := settings(t, environment)
		database, err := OpenDatabase(read.Database, read.Tenant)
		if err != nil {
			t.Fatal(err)
		}
		defer database.Close()
		if err := database.Migrate(t.Context()); err == nil {
			t.Fatal("got no error")
		}
		if err := database.Ready(t.Context()); err == nil || err.Error() != "the tables must have version 1, got 0" {
			t.Fatalf("got %v", err)
		}
	})
}
