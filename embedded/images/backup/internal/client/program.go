package client

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// Main is a whole program that takes its settings from the environment: it prints what it did as one line of
// JSON, or else ends with the failure's exit code and one sentence that begins with what subject says.
func Main[Settings, Report any](
	subject func(Settings) string,
	read func(lookup func(string) (string, bool)) (Settings, error),
	run func(context.Context, Settings) (Report, error),
) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	settings, err := read(os.LookupEnv)
	var line []byte
	if err == nil {
		var report Report
		if report, err = run(ctx, settings); err == nil {
			line, err = json.Marshal(report)
		}
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %s.\n", subject(settings), err)
		os.Exit(ExitCode(err))
	}
	fmt.Println(string(line))
}
