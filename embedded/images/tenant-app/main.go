// Command tenant-app is the reference application of a tenant: it takes the whole tenant contract (see
// ReadSettings) and shows that each part of it works, without being the product. With the argument "replay" it goes
// through what was recorded instead, and ends (see replay).
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const (
	shutdownTimeout = 10 * time.Second
	flushInterval   = 10 * time.Second
	firstRetry      = 200 * time.Millisecond
	longestRetry    = 5 * time.Second
)

func main() {
	if err := dispatch(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "Tenant application: %s.\n", err)
		os.Exit(1)
	}
}

func dispatch(arguments []string) error {
	switch {
	case len(arguments) == 0:
		return run()
	case len(arguments) == 1 && arguments[0] == "replay":
		return replay(os.LookupEnv, os.Stdout)
	}
	return fmt.Errorf("the arguments must be none or replay, got %q; correct them in the pod", arguments)
}

func run() error {
	settings, err := ReadSettings(os.LookupEnv)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	log := slog.New(slog.NewJSONHandler(os.Stdout, nil)).With("tenant", settings.Tenant)
	database, err := OpenDatabase(settings.Database, settings.Tenant)
	if err != nil {
		return err
	}
	defer database.Close()
	server := NewServer(settings, database, log, time.Now)
	go migrateUntilDone(ctx, server, database, log)
	go flushUntilEnd(ctx, server, log)

	listener := &http.Server{
		Addr:              settings.Listen,
		Handler:           server.Handler(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      5 * time.Minute,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
	}
	ended := make(chan error, 2)
	go func() { ended <- listener.ListenAndServe() }()
	if settings.MQTTPort != 0 {
		devices, err := net.Listen("tcp", fmt.Sprintf(":%d", settings.MQTTPort))
		if err != nil {
			return err
		}
		defer devices.Close()
		door := mqttDoor{server.knowsSession, log, connectPatience}
		go func() { ended <- door.serve(devices) }()
	}
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	closing, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	return errors.Join(listener.Shutdown(closing), server.FlushRequests(closing))
}

// migrateUntilDone tries until the database is there and the role may make its tables: a tenant's pod may well
// start before its database does.
func migrateUntilDone(ctx context.Context, server *Server, database *Database, log *slog.Logger) {
	wait := firstRetry
	for {
		err := database.Migrate(ctx)
		server.SetMigrated(err)
		if err == nil {
			return
		}
		log.Warn("tables not made yet", "reason", err.Error())
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = min(2*wait, longestRetry)
	}
}

func flushUntilEnd(ctx context.Context, server *Server, log *slog.Logger) {
	ticker := time.NewTicker(flushInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if err := server.FlushRequests(ctx); err != nil {
				log.Warn("request count kept", "reason", err.Error())
			}
		}
	}
}
