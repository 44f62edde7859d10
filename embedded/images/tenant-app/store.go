package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// ErrNotFound means that the tenant has no such row.
var ErrNotFound = errors.New("not found")

// Sealed is one stored setting; its value is encrypted.
type Sealed struct {
	Name  string
	Value []byte
}

// Record is one row of the tenant's own business, about one person or company.
type Record struct {
	ID        int64           `json:"id"`
	Subject   string          `json:"subject"`
	Body      json.RawMessage `json:"body"`
	CreatedAt time.Time       `json:"createdAt"`
}

// Reencryption tells how far a change of keys has come.
type Reencryption struct {
	From      uint32 `json:"from"`
	To        uint32 `json:"to"`
	InBatch   int    `json:"inBatch"`
	Done      int64  `json:"done"`
	Remaining int64  `json:"remaining"`
	Complete  bool   `json:"complete"`
	LastName  string `json:"lastName"`
}

// Usage counts what a plan is charged by.
type Usage struct {
	Requests      int64 `json:"requests"`
	Records       int64 `json:"records"`
	Settings      int64 `json:"settings"`
	DatabaseBytes int64 `json:"databaseBytes"`
}

// TableSecurity tells how a table's rows are kept to their tenant.
type TableSecurity struct {
	Table    string `json:"table"`
	Enabled  bool   `json:"enabled"`
	Forced   bool   `json:"forced"`
	Policies int    `json:"policies"`
}

// DatabaseFacts are what the server says about this connection and its role.
type DatabaseFacts struct {
	Role           string           `json:"role"`
	IsSuperuser    bool             `json:"isSuperuser"`
	BypassesRLS    bool             `json:"bypassesRowLevelSecurity"`
	TLSVersion     string           `json:"tlsVersion"`
	TLSCipher      string           `json:"tlsCipher"`
	ServerVersion  string           `json:"serverVersion"`
	Tables         []TableSecurity  `json:"tables"`
	RowsByKey      map[uint32]int64 `json:"-"`
	SealedSettings int64            `json:"-"`
}

// Store is the tenant's database as the handlers use it.
type Store interface {
	// Ready fails with one sentence while the database does not answer or has no tables yet.
	Ready(ctx context.Context) error
	RecordCount(ctx context.Context) (int64, error)
	AddRecord(ctx context.Context, subject string, body json.RawMessage) (int64, error)
	Setting(ctx context.Context, name string) ([]byte, error)
	PutSetting(ctx context.Context, name string, keyVersion uint32, value []byte) error
	// Export calls each function for every row, all from one snapshot.
	Export(ctx context.Context, setting func(Sealed) error, record func(Record) error) error
	// Erase removes every record about the subject and tells how many there were.
	Erase(ctx context.Context, subject string) (int64, error)
	// Reencrypt changes up to batch settings from one key to another, in one transaction with its checkpoint.
	Reencrypt(ctx context.Context, from, to uint32, batch int, change func(Sealed) ([]byte, error)) (Reencryption, error)
	CountRequests(ctx context.Context, day time.Time, requests int64) error
	Usage(ctx context.Context, day time.Time) (Usage, error)
	Facts(ctx context.Context) (DatabaseFacts, error)
}

// Database is the Store on PostgreSQL.
type Database struct {
	pool   *pgxpool.Pool
	tenant string
	owner  string
}

// OpenDatabase prepares connections; none is made before the first use.
func OpenDatabase(settings DatabaseSettings, tenant string) (*Database, error) {
	// The text holds no setting of ours: those are put in below, where nothing needs quoting.
	config, err := pgxpool.ParseConfig("host=unset sslmode=disable")
	if err != nil {
		return nil, err
	}
	connection := config.ConnConfig
	connection.Host = settings.Host
	connection.Port = settings.Port
	connection.Database = settings.Name
	connection.User = settings.User
	connection.TLSConfig = settings.tls
	connection.Fallbacks = nil
	connection.ConnectTimeout = 10 * time.Second
	connection.RuntimeParams = map[string]string{
		"application_name":  "tenant-app",
		"app.tenant":        tenant,
		"statement_timeout": "30s",
		"search_path":       "pg_catalog",
	}
	config.MaxConns = settings.MaxConnections
	config.MaxConnLifetime = time.Hour
	config.BeforeConnect = func(_ context.Context, connection *pgx.ConnConfig) error {
		connection.Password, err = readPassword(settings.PasswordFile)
		return err
	}
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	if err != nil {
		return nil, err
	}
	return &Database{pool: pool, tenant: tenant, owner: settings.OwnerRole}, nil
}

// Close ends all connections.
func (d *Database) Close() { d.pool.Close() }

const tablesVersion = 1

// tables: every one has the tenant in its key and row-level security that holds for its owner too.
var tables = []struct{ name, columns string }{
	{"migrations", `version integer NOT NULL, applied_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (tenant, version)`},
	{"settings", `name text NOT NULL, key_version integer NOT NULL, value bytea NOT NULL,
		updated_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (tenant, name)`},
	{"records", `id bigint GENERATED ALWAYS AS IDENTITY, subject text NOT NULL, body jsonb NOT NULL,
		created_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (tenant, id)`},
	{"reencryptions", `from_version integer NOT NULL, to_version integer NOT NULL, done bigint NOT NULL DEFAULT 0,
		last_name text NOT NULL DEFAULT '', started_at timestamptz NOT NULL DEFAULT now(),
		finished_at timestamptz, PRIMARY KEY (tenant, from_version, to_version)`},
	{"request_counts", `day date NOT NULL, requests bigint NOT NULL, PRIMARY KEY (tenant, day)`},
}

// Migrate makes the tables where they are missing, as the owner role where there is one. Several
// replicas may call it at once.
func (d *Database) Migrate(ctx context.Context) error {
	return pgx.BeginFunc(ctx, d.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended('fluxbilling/tenant-app/migrate', 0))`); err != nil {
			return err
		}
		if current, err := d.version(ctx, tx); err != nil || current >= tablesVersion {
			return err
		}
		if d.owner != "" {
			if _, err := tx.Exec(ctx, "SET LOCAL ROLE "+pgx.Identifier{d.owner}.Sanitize()); err != nil {
				return err
			}
		}
		var login string
		if err := tx.QueryRow(ctx, `SELECT session_user`).Scan(&login); err != nil {
			return err
		}
		grantee := pgx.Identifier{login}.Sanitize()
		// Asked first: where the schema was made for us, this role need not be allowed to make one.
		var hasSchema, mayUse bool
		if err := tx.QueryRow(ctx, `SELECT to_regnamespace('app') IS NOT NULL`).Scan(&hasSchema); err != nil {
			return err
		}
		if !hasSchema {
			if _, err := tx.Exec(ctx, `CREATE SCHEMA app`); err != nil {
				return err
			}
		}
		if err := tx.QueryRow(ctx, `SELECT has_schema_privilege($1, 'app', 'USAGE')`, login).Scan(&mayUse); err != nil {
			return err
		}
		var statements []string
		if !mayUse {
			statements = append(statements, `GRANT USAGE ON SCHEMA app TO `+grantee)
		}
		for _, table := range tables {
			name := pgx.Identifier{"app", table.name}.Sanitize()
			statements = append(statements,
				`CREATE TABLE `+name+` (tenant text NOT NULL DEFAULT current_setting('app.tenant'), `+table.columns+`)`,
				`ALTER TABLE `+name+` ENABLE ROW LEVEL SECURITY`,
				`ALTER TABLE `+name+` FORCE ROW LEVEL SECURITY`,
				`CREATE POLICY rows_of_the_tenant ON `+name+`
					USING (tenant = current_setting('app.tenant', true))
					WITH CHECK (tenant = current_setting('app.tenant', true))`,
				`GRANT SELECT, INSERT, UPDATE, DELETE ON `+name+` TO `+grantee,
			)
		}
		statements = append(statements,
			`CREATE INDEX settings_by_key ON app.settings (tenant, key_version, name)`,
			`CREATE INDEX records_by_subject ON app.records (tenant, subject)`,
		)
		for _, statement := range statements {
			if _, err := tx.Exec(ctx, statement); err != nil {
				return err
			}
		}
		_, err := tx.Exec(ctx, `INSERT INTO app.migrations (version) VALUES ($1)`, tablesVersion)
		return err
	})
}

type querier interface {
	QueryRow(ctx context.Context, statement string, values ...any) pgx.Row
}

// version is that of the tables that are there; 0 where there are none.
func (d *Database) version(ctx context.Context, from querier) (int, error) {
	var exists bool
	if err := from.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_class
		WHERE relname = 'migrations' AND relnamespace = to_regnamespace('app'))`).Scan(&exists); err != nil || !exists {
		return 0, err
	}
	var version int
	err := from.QueryRow(ctx, `SELECT coalesce(max(version), 0) FROM app.migrations`).Scan(&version)
	return version, err
}

// Ready implements Store.
func (d *Database) Ready(ctx context.Context) error {
	version, err := d.version(ctx, d.pool)
	if err != nil {
		return err
	}
	if version < tablesVersion {
		return fmt.Errorf("the tables must have version %d, got %d", tablesVersion, version)
	}
	return nil
}

// RecordCount implements Store.
func (d *Database) RecordCount(ctx context.Context) (count int64, err error) {
	err = d.pool.QueryRow(ctx, `SELECT count(*) FROM app.records`).Scan(&count)
	return count, err
}

// AddRecord implements Store.
func (d *Database) AddRecord(ctx context.Context, subject string, body json.RawMessage) (id int64, err error) {
	err = d.pool.QueryRow(ctx, `INSERT INTO app.records (subject, body) VALUES ($1, $2) RETURNING id`, subject, body).Scan(&id)
	return id, err
}

// Setting implements Store.
func (d *Database) Setting(ctx context.Context, name string) (value []byte, err error) {
	err = d.pool.QueryRow(ctx, `SELECT value FROM app.settings WHERE name = $1`, name).Scan(&value)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, ErrNotFound
	}
	return value, err
}

// PutSetting implements Store.
func (d *Database) PutSetting(ctx context.Context, name string, keyVersion uint32, value []byte) error {
	_, err := d.pool.Exec(ctx, `INSERT INTO app.settings (name, key_version, value) VALUES ($1, $2, $3)
		ON CONFLICT (tenant, name) DO UPDATE
		SET key_version = excluded.key_version, value = excluded.value, updated_at = now()`,
		name, int32(keyVersion), value)
	return err
}

// Export implements Store.
func (d *Database) Export(ctx context.Context, setting func(Sealed) error, record func(Record) error) error {
	snapshot := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	return pgx.BeginTxFunc(ctx, d.pool, snapshot, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT name, value FROM app.settings ORDER BY name`)
		if err != nil {
			return err
		}
		var sealed Sealed
		if _, err := pgx.ForEachRow(rows, []any{&sealed.Name, &sealed.Value}, func() error { return setting(sealed) }); err != nil {
			return err
		}
		rows, err = tx.Query(ctx, `SELECT id, subject, body, created_at FROM app.records ORDER BY id`)
		if err != nil {
			return err
		}
		var row Record
		_, err = pgx.ForEachRow(rows, []any{&row.ID, &row.Subject, &row.Body, &row.CreatedAt}, func() error { return record(row) })
		return err
	})
}

// Erase implements Store.
func (d *Database) Erase(ctx context.Context, subject string) (int64, error) {
	tag, err := d.pool.Exec(ctx, `DELETE FROM app.records WHERE subject = $1`, subject)
	return tag.RowsAffected(), err
}

// Reencrypt implements Store.
func (d *Database) Reencrypt(ctx context.Context, from, to uint32, batch int, change func(Sealed) ([]byte, error)) (Reencryption, error) {
	progress := Reencryption{From: from, To: to}
	err := pgx.BeginFunc(ctx, d.pool, func(tx pgx.Tx) error {
		// The checkpoint's row is also the lock: two drivers take turns instead of counting twice.
		err := tx.QueryRow(ctx, `INSERT INTO app.reencryptions (from_version, to_version) VALUES ($1, $2)
			ON CONFLICT (tenant, from_version, to_version) DO UPDATE SET finished_at = NULL
			RETURNING done, last_name`, int32(from), int32(to)).Scan(&progress.Done, &progress.LastName)
		if err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `SELECT name, value FROM app.settings WHERE key_version = $1
			ORDER BY name LIMIT $2 FOR UPDATE`, int32(from), batch)
		if err != nil {
			return err
		}
		sealed, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Sealed])
		if err != nil {
			return err
		}
		for _, old := range sealed {
			changed, err := change(old)
			if err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, `UPDATE app.settings SET key_version = $2, value = $3, updated_at = now()
				WHERE name = $1`, old.Name, int32(to), changed); err != nil {
				return err
			}
			progress.LastName = old.Name
		}
		progress.InBatch = len(sealed)
		progress.Done += int64(len(sealed))
		if err := tx.QueryRow(ctx, `SELECT count(*) FROM app.settings WHERE key_version = $1`, int32(from)).Scan(&progress.Remaining); err != nil {
			return err
		}
		progress.Complete = progress.Remaining == 0
		_, err = tx.Exec(ctx, `UPDATE app.reencryptions SET done = $3, last_name = $4,
			finished_at = CASE WHEN $5 THEN now() END WHERE from_version = $1 AND to_version = $2`,
			int32(from), int32(to), progress.Done, progress.LastName, progress.Complete)
		return err
	})
	return progress, err
}

// CountRequests implements Store.
func (d *Database) CountRequests(ctx context.Context, day time.Time, requests int64) error {
	_, err := d.pool.Exec(ctx, `INSERT INTO app.request_counts AS counts (day, requests) VALUES ($1, $2)
		ON CONFLICT (tenant, day) DO UPDATE SET requests = counts.requests + excluded.requests`, day, requests)
	return err
}

// Usage implements Store.
func (d *Database) Usage(ctx context.Context, day time.Time) (usage Usage, err error) {
	err = d.pool.QueryRow(ctx, `SELECT
		coalesce((SELECT requests FROM app.request_counts WHERE day = $1), 0),
		(SELECT count(*) FROM app.records),
		(SELECT count(*) FROM app.settings),
		pg_database_size(current_database())`, day).
		Scan(&usage.Requests, &usage.Records, &usage.Settings, &usage.DatabaseBytes)
	return usage, err
}

// Facts implements Store.
func (d *Database) Facts(ctx context.Context) (DatabaseFacts, error) {
	facts := DatabaseFacts{RowsByKey: map[uint32]int64{}}
	err := pgx.BeginFunc(ctx, d.pool, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `SELECT current_user, rolsuper, rolbypassrls, coalesce(version, 'none'),
			coalesce(cipher, 'none'), current_setting('server_version')
			FROM pg_roles LEFT JOIN pg_stat_ssl ON pid = pg_backend_pid() WHERE rolname = current_user`).
			Scan(&facts.Role, &facts.IsSuperuser, &facts.BypassesRLS, &facts.TLSVersion, &facts.TLSCipher, &facts.ServerVersion)
		if err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `SELECT relname::text, relrowsecurity, relforcerowsecurity,
			(SELECT count(*)::int FROM pg_policy WHERE polrelid = pg_class.oid)
			FROM pg_class WHERE relnamespace = to_regnamespace('app') AND relkind IN ('r', 'p') ORDER BY relname`)
		if err != nil {
			return err
		}
		if facts.Tables, err = pgx.CollectRows(rows, pgx.RowToStructByPos[TableSecurity]); err != nil {
			return err
		}
		rows, err = tx.Query(ctx, `SELECT key_version, count(*) FROM app.settings GROUP BY key_version`)
		if err != nil {
			return err
		}
		var version int32
		var count int64
		_, err = pgx.ForEachRow(rows, []any{&version, &count}, func() error {
			facts.RowsByKey[uint32(version)] = count
			facts.SealedSettings += count
			return nil
		})
		return err
	})
	return facts, err
}
