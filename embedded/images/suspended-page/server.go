package main

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

//go:embed page.html
var page string

// problem is what programs are told, as the reference application words its errors (RFC 9457).
type problem struct {
	Kind   string `json:"type"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
}

var suspended = problem{
	"policy", http.StatusPaymentRequired,
	"This instance is suspended. Nothing is deleted: its data is kept as it was. Ask the operator who runs it to have it resumed.",
}

// NewServer makes the server, with bounds for whoever calls it; where it listens is its caller's to say.
func NewServer() *http.Server {
	return &http.Server{
		Handler:           handler(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      10 * time.Second,
		// Longer than an ingress keeps a connection that it does not use, so that none ends under a request.
		IdleTimeout:    2 * time.Minute,
		MaxHeaderBytes: 32 << 10,
	}
}

// handler answers every request alike, whatever its method and path, but for the probe's.
//
//	GET /live    that it runs
//	*            402, as HTML or as a problem
func handler() http.Handler {
	content, policy := []byte(page), contentSecurityPolicy(page)
	told, err := json.Marshal(suspended)
	if err != nil {
		panic(err)
	}
	return http.HandlerFunc(func(response http.ResponseWriter, request *http.Request) {
		if request.Method == http.MethodGet && request.URL.Path == "/live" {
			write(response, http.StatusOK, "application/json", []byte(`{"status":"live"}`))
			return
		}
		response.Header().Set("Vary", "Accept")
		if prefersJSON(request.Header.Values("Accept")) {
			write(response, suspended.Status, "application/problem+json", told)
			return
		}
		response.Header().Set("Content-Security-Policy", policy)
		write(response, suspended.Status, "text/html; charset=utf-8", content)
	})
}

// write answers with the headers that every answer has.
func write(response http.ResponseWriter, status int, contentType string, content []byte) {
	header := response.Header()
	if header.Get("Content-Security-Policy") == "" {
		header.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	}
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cache-Control", "no-store")
	header.Set("Content-Type", contentType)
	header.Set("Content-Length", strconv.Itoa(len(content)))
	response.WriteHeader(status)
	response.Write(content)
}

// contentSecurityPolicy lets a page have its own style, by its digest, and nothing else.
func contentSecurityPolicy(page string) string {
	_, rest, _ := strings.Cut(page, "<style>")
	style, _, _ := strings.Cut(rest, "</style>")
	digest := sha256.Sum256([]byte(style))
	return fmt.Sprintf(
		"default-src 'none'; style-src 'sha256-%s'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
		base64.StdEncoding.EncodeToString(digest[:]))
}
