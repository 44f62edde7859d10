package sender

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"fluxbilling/embedded/images/backup/internal/client"
)

// dump writes the database as a custom-format archive, uncompressed, to target.
//
// pg_dump gets nothing of this process's environment; the password reaches it through a file that
// exists in memory only.
func dump(ctx context.Context, settings Settings, target io.Writer) error {
	passwordFile, err := memoryFile(fmt.Sprintf("*:*:*:*:%s\n", escapeForPassfile(settings.databasePassword)))
	if err != nil {
		return err
	}
	defer passwordFile.Close()

	command := exec.CommandContext(ctx, settings.PgDump,
		"--format=custom", "--compress=0", "--no-password", "--lock-wait-timeout=60000")
	command.ExtraFiles = []*os.File{passwordFile}
	command.Env = []string{
		"PGHOST=" + settings.DatabaseHost,
		"PGPORT=" + settings.DatabasePort,
		"PGDATABASE=" + settings.DatabaseName,
		"PGUSER=" + settings.DatabaseUser,
		"PGPASSFILE=/proc/self/fd/3",
		"PGSSLMODE=verify-full",
		"PGSSLROOTCERT=" + settings.DatabaseCAFile,
		"PGSSLMINPROTOCOLVERSION=TLSv1.3",
		"PGCHANNELBINDING=require",
		"PGGSSENCMODE=disable",
		"PGCONNECT_TIMEOUT=20",
		"PGAPPNAME=backup",
		"LC_ALL=C",
		"HOME=/",
	}
	command.Cancel = func() error { return command.Process.Signal(unix.SIGTERM) }
	command.WaitDelay = 5 * time.Second
	complaint := &client.LastBytes{}
	command.Stdout = target
	command.Stderr = complaint
	if err := command.Run(); err != nil {
		said := complaint.LastLine()
		if said == "" {
			said = err.Error()
		}
		return client.Fail(client.KindDatabase, "database %q: must be dumped whole by role %q, got %q; check the role's grants, its certificate authority and that the server answers",
			settings.DatabaseName, settings.DatabaseUser, said)
	}
	return nil
}

// memoryFile makes a file that no file system shows, readable by this user only.
func memoryFile(content string) (*os.File, error) {
	descriptor, err := unix.MemfdCreate("pgpass", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("a file in memory must be made for the password: %w", err)
	}
	file := os.NewFile(uintptr(descriptor), "pgpass")
	if err := file.Chmod(0o600); err != nil {
		file.Close()
		return nil, err
	}
	if _, err := file.WriteString(content); err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

func escapeForPassfile(password []byte) string {
	return strings.NewReplacer(`\`, `\\`, `:`, `\:`).Replace(string(password))
}
