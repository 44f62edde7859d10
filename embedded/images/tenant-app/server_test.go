package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"
)

// brokenStore is a database that is not there.
type brokenStore struct{ Store }

var errBroken = errors.New("canary: connection to db with password")

func (brokenStore) Ready(context.Context) error                { return errBroken }
func (brokenStore) RecordCount(context.Context) (int64, error) { return 0, errBroken }

// countingStore answers the page.
type countingStore struct{ Store }

func (countingStore) Ready(context.Context) error                { return nil }
func (countingStore) RecordCount(context.Context) (int64, error) { return 42, nil }

// attestingStore has the tables, and nothing in them.
type attestingStore struct{ countingStore }

func (attestingStore) Facts(context.Context) (DatabaseFacts, error) {
	return DatabaseFacts{RowsByKey: map[uint32]int64{}}, nil
}

func serverWith(t *testing.T, store Store, environment map[string]string) *Server {
	t.Helper()
	server := NewServer(settings(t, environment), store, slog.New(slog.NewTextHandler(io.Discard, nil)), func() time.Time { return start })
	server.SetMigrated(nil)
	return server
}

func ask(handler http.Handler, method, path string, change func(*http.Request)) *httptest.ResponseRecorder {
	request := httptest.NewRequest(method, path, nil)
	change(request)
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, request)
	return recorder
}

func plain(*http.Request) {}

func TestOperatorRoutesAreShutWithoutTheToken(t *testing.T) {
	handler := serverWith(t, brokenStore{}, contract(t)).Handler()
	routes := []string{"GET /settings/a", "PUT /settings/a", "POST /records", "GET /export", "POST /erase", "POST /reencrypt", "GET /usage"}
	for _, route := range routes {
		method, path, _ := strings.Cut(route, " ")
		for _, header := range []string{"", "Bearer ", "Bearer wrong", operatorToken, "Basic " + operatorToken, bearer(operatorToken + "x"), "Bearer " + operatorToken} {
			answer := ask(handler, method, path, func(request *http.Request) { request.Header.Set("Authorization", header) })
			if answer.Code != http.StatusUnauthorized {
				t.Errorf("%s with %q: got %d, want 401", route, header, answer.Code)
			}
		}
	}
}

func TestOperatorsTokenHoldsThroughOneRotation(t *testing.T) {
	environment := contract(t)
	rotated := secretFiles()
	rotated["token"], rotated["token-previous"] = strings.Repeat("n", 32), operatorToken
	environment["CONTRACT_DIRECTORY"] = files(t, rotated)
	handler := serverWith(t, brokenStore{}, environment).Handler()
	for _, token := range []string{operatorToken, strings.Repeat("n", 32)} {
		answer := ask(handler, http.MethodPost, "/erase", func(request *http.Request) { request.Header.Set("Authorization", bearer(token)) })
		// Past the token, it is the missing subject that is refused.
		if answer.Code != http.StatusBadRequest {
			t.Errorf("%q: got %d, want 400", token, answer.Code)
		}
	}
}

func TestEveryAnswerCarriesTheSecurityHeaders(t *testing.T) {
	handler := serverWith(t, countingStore{}, contract(t)).Handler()
	want := map[string]string{
		"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
	}
	for _, path := range []string{"/", "/live", "/ready", "/nothing", "/usage"} {
		answer := ask(handler, http.MethodGet, path, plain)
		for name, value := range want {
			if got := answer.Header().Get(name); got != value {
				t.Errorf("%s: %s is %q, want %q", path, name, got, value)
			}
		}
		if answer.Header().Get("Content-Security-Policy") == "" {
			t.Errorf("%s: no Content-Security-Policy", path)
		}
	}
}

func TestPageShowsTenantAndRowsUnderAFreshNonce(t *testing.T) {
	environment := contract(t)
	environment["TENANT"], environment["PLAN"] = "<acme>", "lite"
	handler := serverWith(t, countingStore{}, environment).Handler()
	nonces := map[string]bool{}
	for range 10 {
		answer := ask(handler, http.MethodGet, "/", plain)
		body := answer.Body.String()
		for _, part := range []string{"<h1>&lt;acme&gt;</h1>", `<dd id="plan">lite</dd>`, `<dd id="rows">42</dd>`} {
			if !strings.Contains(body, part) {
				t.Fatalf("no %s in %s", part, body)
			}
		}
		policy := answer.Header().Get("Content-Security-Policy")
		match := regexp.MustCompile(`^default-src 'none'; style-src 'nonce-([A-Za-z0-9_-]{22})'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'$`).FindStringSubmatch(policy)
		if match == nil || !strings.Contains(body, `<style nonce="`+match[1]+`">`) {
			t.Fatalf("got policy %q", policy)
		}
		nonces[match[1]] = true
	}
	if len(nonces) != 10 {
		t.Fatalf("got %d different nonces of 10", len(nonces))
	}
}

func TestPageStartsASessionOnlyWhereThereIsNone(t *testing.T) {
	handler := serverWith(t, countingStore{}, contract(t)).Handler()
	first := ask(handler, http.MethodGet, "/", plain).Result().Cookies()
	if len(first) != 1 {
		t.Fatalf("got %v", first)
	}
	second := ask(handler, http.MethodGet, "/", func(request *http.Request) { request.AddCookie(first[0]) })
	if cookies := second.Result().Cookies(); len(cookies) != 0 {
		t.Fatalf("got %v", cookies)
	}
}

func TestSessionEndsAfterTheDaysThatTheTenantSets(t *testing.T) {
	for days, age := range map[string]time.Duration{"": 14 * 24 * time.Hour, "2": 48 * time.Hour} {
		environment := contract(t)
		environment["SESSION_DAYS"] = days
		server := serverWith(t, countingStore{}, environment)
		first := ask(server.Handler(), http.MethodGet, "/", plain).Result().Cookies()
		if len(first) != 1 || first[0].MaxAge != int(age.Seconds()) {
			t.Fatalf("got %v", first)
		}
		for at, want := range map[time.Duration]int{age - time.Second: 0, age: 1} {
			server.now = func() time.Time { return start.Add(at) }
			again := ask(server.Handler(), http.MethodGet, "/", func(request *http.Request) { request.AddCookie(first[0]) })
			if got := len(again.Result().Cookies()); got != want {
				t.Errorf("after %s of %s: got %d new sessions, want %d", at, age, got, want)
			}
		}
	}
}

func TestAttestTellsIdentityMailAndMetersWithoutASecret(t *testing.T) {
	environment := contract(t)
	maps.Copy(environment, identityContract(t))
	got := attested(t, environment)
	want := map[string]string{
		"identity": `{"accessSeconds":900,"callback":"https://acme.tenants.test","providers":[{"kind":"oidc","name":"work"},{"kind":"oauth2","name":"git"},{"kind":"saml","name":"partner"},{"kind":"ldap","name":"directory"}],"refreshSeconds":864000,"registration":"open","secondFactor":["operator","owner"]}`,
		"mail":     `{"host":"smtp.example.com","port":587,"startTls":"required"}`,
		"meters":   `{"dataRetentionDays":90,"executionsPerMonth":500000,"replaysPerMonth":50000}`,
	}
	for part, wanted := range want {
		if string(got[part]) != wanted {
			t.Errorf("%s: got %s, want %s", part, got[part], wanted)
		}
	}
	if !strings.Contains(string(got["session"]), `"maxAgeSeconds":604800`) {
		t.Errorf("got %s", got["session"])
	}
}

func TestAttestTellsWhatHoldsWhereNothingIsSet(t *testing.T) {
	got := attested(t, contract(t))
	want := map[string]string{
		"identity": `{"accessSeconds":3600,"callback":"","providers":[],"refreshSeconds":2592000,"registration":"closed","secondFactor":["operator"]}`,
		"mail":     `null`,
		"meters":   `{"dataRetentionDays":7,"executionsPerMonth":1000,"replaysPerMonth":100}`,
	}
	for part, wanted := range want {
		if string(got[part]) != wanted {
			t.Errorf("%s: got %s, want %s", part, got[part], wanted)
		}
	}
}

func attested(t *testing.T, environment map[string]string) map[string]json.RawMessage {
	t.Helper()
	answer := ask(serverWith(t, attestingStore{}, environment).Handler(), http.MethodGet, "/attest", plain)
	if answer.Code != http.StatusOK || strings.Contains(answer.Body.String(), "canary") {
		t.Fatalf("got %d, %s", answer.Code, answer.Body)
	}
	var parts map[string]json.RawMessage
	if err := json.Unmarshal(answer.Body.Bytes(), &parts); err != nil {
		t.Fatal(err)
	}
	return parts
}

func TestReadyTellsNothingAboutWhyNot(t *testing.T) {
	for name, server := range map[string]*Server{
		"no database": serverWith(t, brokenStore{}, contract(t)),
		"no tables": func() *Server {
			server := serverWith(t, countingStore{}, contract(t))
			server.SetMigrated(errBroken)
			return server
		}(),
		"no volume": func() *Server {
			environment := contract(t)
			environment["FILES_DIRECTORY"] = "/nowhere"
			return serverWith(t, countingStore{}, environment)
		}(),
	} {
		answer := ask(server.Handler(), http.MethodGet, "/ready", plain)
		if answer.Code != http.StatusServiceUnavailable || strings.Contains(answer.Body.String(), "canary") {
			t.Errorf("%s: got %d, %s", name, answer.Code, answer.Body)
		}
		if live := ask(server.Handler(), http.MethodGet, "/live", plain); live.Code != http.StatusOK {
			t.Errorf("%s: live is %d", name, live.Code)
		}
	}
	good := ask(serverWith(t, countingStore{}, contract(t)).Handler(), http.MethodGet, "/ready", plain)
	if good.Code != http.StatusOK {
		t.Errorf("got %d", good.Code)
	}
}

func TestDefectsAreAnsweredWithAnIdAndNoDetail(t *testing.T) {
	answer := ask(serverWith(t, brokenStore{}, contract(t)).Handler(), http.MethodGet, "/", plain)
	var got problem
	if err := json.Unmarshal(answer.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got.Kind != "defect" || got.Status != 500 || !regexp.MustCompile(`^This is our defect; the log has it as [0-9a-f]{16}\.$`).MatchString(got.Detail) {
		t.Fatalf("got %+v", got)
	}
}

func TestClientAddressBelievesTrustedProxiesOnly(t *testing.T) {
	environment := contract(t)
	environment["TRUSTED_PROXIES"] = "10.42.0.0/16, 10.43.0.0/16"
	server := serverWith(t, countingStore{}, environment)
	for name, asked := range map[string]struct {
		peer, forwarded, want string
	}{
		"nobody between":           {"192.0.2.1:1", "", "192.0.2.1"},
		"a liar":                   {"192.0.2.1:1", "198.51.100.9", "192.0.2.1"},
		"a proxy":                  {"10.42.0.7:1", "198.51.100.9", "198.51.100.9"},
		"a liar behind a proxy":    {"10.42.0.7:1", "203.0.113.5, 198.51.100.9", "198.51.100.9"},
		"two proxies":              {"10.42.0.7:1", "198.51.100.9, 10.43.0.1", "198.51.100.9"},
		"a proxy that says naught": {"10.42.0.7:1", "", "10.42.0.7"},
		"a proxy that says noise":  {"10.42.0.7:1", "noise", "10.42.0.7"},
	} {
		request := httptest.NewRequest(http.MethodGet, "/", nil)
		request.RemoteAddr = asked.peer
		if asked.forwarded != "" {
			request.Header.Set("X-Forwarded-For", asked.forwarded)
		}
		if got := server.clientAddress(request); got != asked.want {
			t.Errorf("%s: got %s, want %s", name, got, asked.want)
		}
	}
}
