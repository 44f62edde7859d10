package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

const (
	maxSettingBytes = 64 << 10
	maxRecordBytes  = 256 << 10
	maxSubjectBytes = 256
	maxBatch        = 1000
	defaultBatch    = 100
	readyTimeout    = 3 * time.Second

	contentSecurityPolicy = "default-src 'none'; style-src 'nonce-%s'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

var settingName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,127}$`)

// Server answers for one tenant.
type Server struct {
	settings Settings
	store    Store
	log      *slog.Logger
	now      func() time.Time
	// migrationError is why there are no tables yet; nil once there are.
	migrationError atomic.Pointer[error]
	requests       atomic.Int64
}

// NewServer makes a server that is not ready until SetMigrated was called without an error.
func NewServer(settings Settings, store Store, log *slog.Logger, now func() time.Time) *Server {
	server := &Server{settings: settings, store: store, log: log, now: now}
	server.SetMigrated(errors.New("the tables are being made"))
	return server
}

// SetMigrated tells whether the tables are there, or why they are not.
func (s *Server) SetMigrated(err error) {
	if err == nil {
		s.migrationError.Store(nil)
		return
	}
	s.migrationError.Store(&err)
}

// FlushRequests writes the requests counted since the last time to the database; they are kept when it fails.
func (s *Server) FlushRequests(ctx context.Context) error {
	counted := s.requests.Swap(0)
	if counted == 0 {
		return nil
	}
	err := s.store.CountRequests(ctx, day(s.now()), counted)
	if err != nil {
		s.requests.Add(counted)
	}
	return err
}

// Handler has all the routes.
//
//	GET  /live /ready             probes
//	GET  /                        a page for people
//	GET  /attest                  what this application does about security, as JSON
//	GET  PUT /settings/{name}     a setting, encrypted at rest                          operator
//	POST /records?subject=        adds a row about a subject; the body is its JSON      operator
//	GET  /export                  everything of the tenant, one JSON value a line       operator
//	POST /erase?subject=          removes every row about a subject                     operator
//	POST /reencrypt?from=&to=&batch=  one batch from one key to another, until complete operator
//	GET  /usage                   signed counts of the day                              operator
//
// Operator routes need "Authorization: Bearer <token>".
func (s *Server) Handler() http.Handler { return s.guarded(s.routes()) }

func (s *Server) routes() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /live", func(response http.ResponseWriter, _ *http.Request) {
		writeJSON(response, map[string]string{"status": "live"})
	})
	mux.HandleFunc("GET /ready", s.ready)
	mux.Handle("GET /{$}", s.counted(s.page))
	mux.Handle("GET /attest", s.counted(s.attest))
	mux.Handle("GET /settings/{name}", s.counted(s.operator(s.getSetting)))
	mux.Handle("PUT /settings/{name}", s.counted(s.operator(s.putSetting)))
	mux.Handle("POST /records", s.counted(s.operator(s.addRecord)))
	mux.Handle("GET /export", s.counted(s.operator(s.export)))
	mux.Handle("POST /erase", s.counted(s.operator(s.erase)))
	mux.Handle("POST /reencrypt", s.counted(s.operator(s.reencrypt)))
	mux.Handle("GET /usage", s.counted(s.operator(s.usage)))
	return mux
}

// guarded sets the headers that every answer has, and turns a handler's panic into an answer.
func (s *Server) guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(response http.ResponseWriter, request *http.Request) {
		header := response.Header()
		header.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("X-Frame-Options", "DENY")
		header.Set("Referrer-Policy", "no-referrer")
		header.Set("Cache-Control", "no-store")
		defer func() {
			if recovered := recover(); recovered != nil && recovered != http.ErrAbortHandler {
				s.fail(response, request, fmt.Errorf("panic: %v", recovered))
			} else if recovered != nil {
				panic(recovered)
			}
		}()
		next.ServeHTTP(response, request)
	})
}

func (s *Server) counted(next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(response http.ResponseWriter, request *http.Request) {
		s.requests.Add(1)
		s.log.Info("request", "method", request.Method, "path", request.URL.Path, "client", s.clientAddress(request))
		next(response, request)
	})
}

// operator lets in who shows the token.
func (s *Server) operator(next http.HandlerFunc) http.HandlerFunc {
	return func(response http.ResponseWriter, request *http.Request) {
		secrets, err := ReadSecrets(s.settings.ContractFolder)
		if err != nil {
			s.fail(response, request, err)
			return
		}
		token, ok := strings.CutPrefix(request.Header.Get("Authorization"), "Bearer ")
		if !ok || !secrets.isOperator(token) {
			response.Header().Set("WWW-Authenticate", "Bearer")
			problem{"auth", http.StatusUnauthorized, "This route must be called with the operator's bearer token."}.write(response)
			return
		}
		next(response, request)
	}
}

// knowsSession tells whether a session is one that this tenant has started and that has not ended.
func (s *Server) knowsSession(session string) bool {
	secrets, err := ReadSecrets(s.settings.ContractFolder)
	if err != nil {
		s.log.Error("no session read", "reason", err.Error())
		return false
	}
	return sessions{secrets.Session, s.settings.Identity.SessionMaxAge, s.now}.holds(session)
}

func (s *Server) ready(response http.ResponseWriter, request *http.Request) {
	ctx, cancel := context.WithTimeout(request.Context(), readyTimeout)
	defer cancel()
	err := s.notReady(ctx)
	if err != nil {
		s.log.Warn("not ready", "reason", err.Error())
		problem{"capacity", http.StatusServiceUnavailable, "The application must have its database, tables, keys, secrets and volume, got not all of them. Its log says what is missing."}.write(response)
		return
	}
	writeJSON(response, map[string]string{"status": "ready"})
}

func (s *Server) notReady(ctx context.Context) error {
	if err := s.migrationError.Load(); err != nil {
		return *err
	}
	if _, err := ReadKeyring(s.settings.KeysFolder); err != nil {
		return err
	}
	if _, err := ReadSecrets(s.settings.ContractFolder); err != nil {
		return err
	}
	if folder := s.settings.FilesFolder; folder != "" {
		if facts, err := os.Stat(folder); err != nil || !facts.IsDir() {
			return fmt.Errorf("the volume must be mounted at %q, got none", folder)
		}
	}
	return s.store.Ready(ctx)
}

var page = template.Must(template.New("page").Parse(`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{{.Tenant}}</title>
<style nonce="{{.Nonce}}">body{font:16px/1.5 sans-serif;margin:3rem auto;max-width:40rem}dt{font-weight:bold}</style>
</head>
<body>
<h1>{{.Tenant}}</h1>
<dl>
<dt>Plan</dt><dd id="plan">{{.Plan}}</dd>
<dt>Location</dt><dd id="location">{{.Location}}</dd>
<dt>Rows in its own database</dt><dd id="rows">{{.Rows}}</dd>
<dt>Address</dt><dd id="url">{{.URL}}</dd>
<dt>Your address</dt><dd id="client">{{.Client}}</dd>
</dl>
</body>
</html>
`))

func (s *Server) page(response http.ResponseWriter, request *http.Request) {
	rows, err := s.store.RecordCount(request.Context())
	if err != nil {
		s.fail(response, request, err)
		return
	}
	secrets, err := ReadSecrets(s.settings.ContractFolder)
	if err != nil {
		s.fail(response, request, err)
		return
	}
	if session := (sessions{secrets.Session, s.settings.Identity.SessionMaxAge, s.now}); !session.isValid(request) {
		http.SetCookie(response, session.start())
	}
	random := make([]byte, 16)
	rand.Read(random)
	nonce := base64.RawURLEncoding.EncodeToString(random)
	response.Header().Set("Content-Security-Policy", fmt.Sprintf(contentSecurityPolicy, nonce))
	response.Header().Set("Content-Type", "text/html; charset=utf-8")
	var content bytes.Buffer
	err = page.Execute(&content, map[string]any{
		"Tenant": s.settings.Tenant, "Plan": s.settings.Plan, "Location": s.settings.Location,
		"URL": s.settings.PublicURL, "Rows": rows, "Client": s.clientAddress(request), "Nonce": nonce,
	})
	if err != nil {
		s.fail(response, request, err)
		return
	}
	response.Write(content.Bytes())
}

type attestedKey struct {
	Version  uint32 `json:"version"`
	ID       string `json:"id"`
	Settings int64  `json:"settings"`
	IsActive bool   `json:"isActive"`
}

func (s *Server) attest(response http.ResponseWriter, request *http.Request) {
	ring, err := ReadKeyring(s.settings.KeysFolder)
	if err != nil {
		s.fail(response, request, err)
		return
	}
	facts, err := s.store.Facts(request.Context())
	if err != nil {
		s.fail(response, request, err)
		return
	}
	// A version that rows still use but the keyring has lost shows too, without an id.
	versions := ring.Versions()
	for version := range facts.RowsByKey {
		if !ring.Has(version) {
			versions = append(versions, version)
		}
	}
	slices.Sort(versions)
	keys := []attestedKey{}
	for _, version := range versions {
		keys = append(keys, attestedKey{version, ring.ID(version), facts.RowsByKey[version], version == ring.Active()})
	}
	writeJSON(response, map[string]any{
		"tenant":      s.settings.Tenant,
		"plan":        s.settings.Plan,
		"location":    s.settings.Location,
		"application": "reference",
		"encryption": map[string]any{
			"algorithm": "AES-256-GCM", "activeKeyVersion": ring.Active(), "keys": keys,
		},
		"session": map[string]any{
			"maxAgeSeconds": int(s.settings.Identity.SessionMaxAge.Seconds()),
			"cookie":        map[string]any{"name": sessionCookie, "secure": true, "httpOnly": true, "sameSite": "Lax"},
		},
		"identity":              s.settings.Identity.attested(s.settings.PublicURL),
		"mail":                  s.settings.Mail.attested(),
		"meters":                s.settings.Meters,
		"contentSecurityPolicy": fmt.Sprintf(contentSecurityPolicy, "{random per answer}"),
		"database":              facts,
	})
}

func (s *Server) getSetting(response http.ResponseWriter, request *http.Request) {
	name := request.PathValue("name")
	if !settingName.MatchString(name) {
		badRequest(nameRule).write(response)
		return
	}
	sealed, err := s.store.Setting(request.Context(), name)
	if err != nil {
		s.fail(response, request, err)
		return
	}
	value, err := s.open(Sealed{name, sealed})
	if err != nil {
		s.fail(response, request, err)
		return
	}
	response.Header().Set("Content-Type", "application/octet-stream")
	response.Write(value)
}

const nameRule = "A setting's name must be 1 to 128 of a-z, 0-9, dot, dash and underscore, and start with a letter or digit."

func (s *Server) putSetting(response http.ResponseWriter, request *http.Request) {
	name := request.PathValue("name")
	if !settingName.MatchString(name) {
		badRequest(nameRule).write(response)
		return
	}
	value, ok := s.body(response, request, maxSettingBytes)
	if !ok {
		return
	}
	ring, err := ReadKeyring(s.settings.KeysFolder)
	if err != nil {
		s.fail(response, request, err)
		return
	}
	if err := s.store.PutSetting(request.Context(), name, ring.Active(), ring.Seal(s.settings.Tenant, name, value)); err != nil {
		s.fail(response, request, err)
		return
	}
	response.WriteHeader(http.StatusNoContent)
}

func (s *Server) addRecord(response http.ResponseWriter, request *http.Request) {
	subject, ok := s.subject(response, request)
	if !ok {
		return
	}
	body, ok := s.body(response, request, maxRecordBytes)
	if !ok {
		return
	}
	if !json.Valid(body) {
		badRequest("A record's body must be JSON.").write(response)
		return
	}
	id, err := s.store.AddRecord(request.Context(), subject, body)
	if err != nil {
		s.fail(response, request, err)
		return
	}
	writeJSON(response, map[string]int64{"id": id})
}

// export sends one JSON value a line: what it is, settings in clear, records, and at last an end line with the
// counts. Without the end line an export is cut.
func (s *Server) export(response http.ResponseWriter, request *http.Request) {
	response.Header().Set("Content-Type", "application/x-ndjson")
	lines := json.NewEncoder(response)
	if err := lines.Encode(map[string]any{"kind": "export", "tenant": s.settings.Tenant, "at": s.now().UTC()}); err != nil {
		return
	}
	settings, records := 0, 0
	err := s.store.Export(request.Context(),
		func(sealed Sealed) error {
			value, err := s.open(sealed)
			if err != nil {
				return err
			}
			settings++
			return lines.Encode(map[string]any{"kind": "setting", "name": sealed.Name, "valueBase64": value})
		},
		func(record Record) error {
			records++
			return lines.Encode(struct {
				Kind string `json:"kind"`
				Record
			}{"record", record})
		})
	if err != nil {
		s.log.Error("export cut", "reason", err.Error())
		panic(http.ErrAbortHandler)
	}
	lines.Encode(map[string]any{"kind": "end", "settings": settings, "records": records})
}

func (s *Server) erase(response http.ResponseWriter, request *http.Request) {
	subject, ok := s.subject(response, request)
	if !ok {
		return
	}
	erased, err := s.store.Erase(request.Context(), subject)
	if err != nil {
		s.fail(response, request, err)
		return
	}
	writeJSON(response, map[string]any{"subject": subject, "erased": erased})
}

func (s *Server) reencrypt(response http.ResponseWriter, request *http.Request) {
	query := request.URL.Query()
	from, fromErr := parseVersion(query.Get("from"))
	to, toErr := parseVersion(query.Get("to"))
	if fromErr != nil || toErr != nil || from == to {
		badRequest("The query must name two different key versions as from and to.").write(response)
		return
	}
	batch := defaultBatch
	if text := query.Get("batch"); text != "" {
		number, err := strconv.Atoi(text)
		if err != nil || number < 1 || number > maxBatch {
			badRequest(fmt.Sprintf("The query's batch must be a number from 1 to %d.", maxBatch)).write(response)
			return
		}
		batch = number
	}
	ring, err := ReadKeyring(s.settings.KeysFolder)
	if err != nil {
		s.fail(response, request, err)
		return
	}
	if !ring.Has(from) {
		badRequest(fmt.Sprintf("The keyring must hold version %d, got %v. Put the key back until nothing uses it.", from, ring.Versions())).write(response)
		return
	}
	// Were another key active, values written meanwhile would be left behind.
	if to != ring.Active() {
		badRequest(fmt.Sprintf("The key to change to must be the active one, version %d, got %d. Make it active first.", ring.Active(), to)).write(response)
		return
	}
	progress, err := s.store.Reencrypt(request.Context(), from, to, batch, func(sealed Sealed) ([]byte, error) {
		value, err := ring.Open(s.settings.Tenant, sealed.Name, sealed.Value)
		if err != nil {
			return nil, fmt.Errorf("setting %q: %w", sealed.Name, err)
		}
		return ring.Seal(s.settings.Tenant, sealed.Name, value), nil
	})
	if err != nil {
		s.fail(response, request, err)
		return
	}
	writeJSON(response, progress)
}

// usage signs "<unix time>.<body>" with HMAC-SHA-256 under the webhook secret into the header Usage-Signature: "t=<unix time>,v1=<hex>".
func (s *Server) usage(response http.ResponseWriter, request *http.Request) {
	now := s.now()
	if err := s.FlushRequests(request.Context()); err != nil {
		s.fail(response, request, err)
		return
	}
	usage, err := s.store.Usage(request.Context(), day(now))
	if err != nil {
		s.fail(response, request, err)
		return
	}
	body, err := json.Marshal(struct {
		Tenant string    `json:"tenant"`
		Plan   string    `json:"plan"`
		Day    string    `json:"day"`
		At     time.Time `json:"at"`
		Usage
	}{s.settings.Tenant, s.settings.Plan, now.UTC().Format(time.DateOnly), now.UTC(), usage})
	if err != nil {
		s.fail(response, request, err)
		return
	}
	at := strconv.FormatInt(now.Unix(), 10)
	secrets, err := ReadSecrets(s.settings.ContractFolder)
	if err != nil {
		s.fail(response, request, err)
		return
	}
	signature := hex.EncodeToString(sign(secrets.Webhook[0], at+"."+string(body)))
	response.Header().Set("Usage-Signature", "t="+at+",v1="+signature)
	response.Header().Set("Content-Type", "application/json")
	response.Write(body)
}

func (s *Server) open(sealed Sealed) ([]byte, error) {
	ring, err := ReadKeyring(s.settings.KeysFolder)
	if err != nil {
		return nil, err
	}
	value, err := ring.Open(s.settings.Tenant, sealed.Name, sealed.Value)
	if err != nil {
		return nil, fmt.Errorf("setting %q: %w", sealed.Name, err)
	}
	return value, nil
}

func (s *Server) subject(response http.ResponseWriter, request *http.Request) (string, bool) {
	subject := request.URL.Query().Get("subject")
	if subject == "" || len(subject) > maxSubjectBytes || strings.ContainsRune(subject, 0) {
		badRequest(fmt.Sprintf("The query's subject must be 1 to %d bytes of text.", maxSubjectBytes)).write(response)
		return "", false
	}
	return subject, true
}

func (s *Server) body(response http.ResponseWriter, request *http.Request, maxBytes int64) ([]byte, bool) {
	body, err := io.ReadAll(http.MaxBytesReader(response, request.Body, maxBytes))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		problem{"quota", http.StatusRequestEntityTooLarge, fmt.Sprintf("The body must be at most %d bytes.", maxBytes)}.write(response)
		return nil, false
	}
	if err != nil {
		badRequest("The body must arrive whole.").write(response)
		return nil, false
	}
	return body, true
}

// fail answers for an error that is not the caller's; what it was is in the log, under the id that the answer names.
func (s *Server) fail(response http.ResponseWriter, request *http.Request, err error) {
	if errors.Is(err, ErrNotFound) {
		problem{"not-found", http.StatusNotFound, "The tenant must have it, got none of that name."}.write(response)
		return
	}
	random := make([]byte, 8)
	rand.Read(random)
	id := hex.EncodeToString(random)
	s.log.Error("failed", "id", id, "method", request.Method, "path", request.URL.Path, "reason", err.Error())
	if errors.Is(err, context.DeadlineExceeded) {
		problem{"timeout", http.StatusGatewayTimeout, "The database must answer in time. Ask again; the log has it as " + id + "."}.write(response)
		return
	}
	problem{"defect", http.StatusInternalServerError, "This is our defect; the log has it as " + id + "."}.write(response)
}

// clientAddress is the peer's, or what trusted proxies say about it: the last address in X-Forwarded-For that is
// not a trusted proxy itself.
func (s *Server) clientAddress(request *http.Request) string {
	peer, err := netip.ParseAddrPort(request.RemoteAddr)
	if err != nil {
		return "unknown"
	}
	address := peer.Addr().Unmap()
	hops := strings.Split(strings.Join(request.Header.Values("X-Forwarded-For"), ","), ",")
	for len(hops) > 0 && s.isTrusted(address) {
		hop, err := netip.ParseAddr(strings.TrimSpace(hops[len(hops)-1]))
		if err != nil {
			break
		}
		address = hop.Unmap()
		hops = hops[:len(hops)-1]
	}
	return address.String()
}

func (s *Server) isTrusted(address netip.Addr) bool {
	return slices.ContainsFunc(s.settings.TrustedProxies, func(prefix netip.Prefix) bool { return prefix.Contains(address) })
}

func writeJSON(response http.ResponseWriter, value any) {
	response.Header().Set("Content-Type", "application/json")
	json.NewEncoder(response).Encode(value)
}

func day(at time.Time) time.Time { return at.UTC().Truncate(24 * time.Hour) }
