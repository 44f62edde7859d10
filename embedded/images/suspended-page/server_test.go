package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

func answer(t *testing.T, method, path string, headers map[string]string) *http.Response {
	t.Helper()
	request := httptest.NewRequest(method, path, nil)
	for name, value := range headers {
		request.Header.Set(name, value)
	}
	recorder := httptest.NewRecorder()
	NewServer().Handler.ServeHTTP(recorder, request)
	return recorder.Result()
}

func bodyOf(t *testing.T, response *http.Response) string {
	t.Helper()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestEveryRequestIsToldThatTheInstanceIsSuspended(t *testing.T) {
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "BREW"} {
		for _, path := range []string{"/", "/attest", "/live/", "/a/../b", "/?x=%00"} {
			response := answer(t, method, path, nil)
			if response.StatusCode != 402 {
				t.Errorf("%s %s: got %d", method, path, response.StatusCode)
			}
			if got := response.Header.Get("Cache-Control"); got != "no-store" {
				t.Errorf("%s %s: Cache-Control %q", method, path, got)
			}
		}
	}
}

func TestPeopleGetAPageOfItsOwnAlone(t *testing.T) {
	response := answer(t, "GET", "/", map[string]string{
		"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8",
	})
	body := bodyOf(t, response)
	if got := response.Header.Get("Content-Type"); got != "text/html; charset=utf-8" {
		t.Errorf("Content-Type %q", got)
	}
	for _, words := range []string{"This instance is suspended", "Nothing is deleted", "ask the operator who runs it"} {
		if !strings.Contains(body, words) {
			t.Errorf("the page must say %q, got:\n%s", words, body)
		}
	}
	if found := regexp.MustCompile(`(?i)<(script|img|link|iframe|form|a)\b|https?:|url\(|\bon\w+=|\bstyle=`).FindString(body); found != "" {
		t.Errorf("the page must need nothing else, got %q", found)
	}
	style := regexp.MustCompile(`(?s)<style>(.*?)</style>`).FindAllStringSubmatch(body, -1)
	if len(style) != 1 {
		t.Fatalf("the page must have one style, got %d", len(style))
	}
	digest := sha256.Sum256([]byte(style[0][1]))
	allowed := "style-src 'sha256-" + base64.StdEncoding.EncodeToString(digest[:]) + "'"
	policy := response.Header.Get("Content-Security-Policy")
	if !strings.HasPrefix(policy, "default-src 'none'; ") || !strings.Contains(policy, allowed) {
		t.Errorf("Content-Security-Policy %q", policy)
	}
}

func TestProgramsGetAProblem(t *testing.T) {
	response := answer(t, "POST", "/records", map[string]string{"Accept": "application/json"})
	var got problem
	if err := json.Unmarshal([]byte(bodyOf(t, response)), &got); err != nil {
		t.Fatal(err)
	}
	if got.Kind != "policy" || got.Status != 402 || !strings.Contains(got.Detail, "This instance is suspended.") {
		t.Errorf("got %+v", got)
	}
	if contentType := response.Header.Get("Content-Type"); contentType != "application/problem+json" {
		t.Errorf("Content-Type %q", contentType)
	}
	if vary := response.Header.Get("Vary"); vary != "Accept" {
		t.Errorf("Vary %q", vary)
	}
}

func TestWhatIsWantedIsReadAsRFC9110HasIt(t *testing.T) {
	for accept, expected := range map[string]bool{
		"":                                        false,
		"*/*":                                     false,
		"text/html":                               false,
		"text/html, application/json":             false,
		"application/json":                        true,
		"application/problem+json":                true,
		"APPLICATION/JSON":                        true,
		"application/*":                           true,
		"application/*, text/*;q=0.5":             true,
		"application/json, text/plain, */*":       true,
		"application/json;q=0.9, */*":             false,
		"application/json;q=0.9, */*;q=0.8":       true,
		"text/html;q=0.4, application/json;q=0.5": true,
		"text/html;q=0.5, application/json;q=0.4": false,
		"text/html;q=0, */*;q=0.1":                true,
		"application/json;q=0":                    false,
		"application/json;q=2":                    false,
		"application/json;q=NaN":                  false,
		"application/json;q=x":                    false,
		"application/json; charset=utf-8":         true,
		",,;=;, application/json":                 true,
		"text/html;q=0, */*":                      true,
	} {
		var headers []string
		if accept != "" {
			headers = []string{accept}
		}
		if got := prefersJSON(headers); got != expected {
			t.Errorf("Accept %q: got %v", accept, got)
		}
	}
	if !prefersJSON([]string{"text/html;q=0.1", "application/json"}) {
		t.Error("a second Accept header is read too")
	}
}

func TestLiveIsForTheProbe(t *testing.T) {
	response := answer(t, "GET", "/live", nil)
	if response.StatusCode != 200 || bodyOf(t, response) != `{"status":"live"}` {
		t.Errorf("got %d", response.StatusCode)
	}
	if got := response.Header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control %q", got)
	}
}

// What nobody sends in earnest is refused before it is read to its end.
func TestHeadersAreBounded(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := NewServer()
	go server.Serve(listener)
	defer server.Close()
	connection, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	fmt.Fprintf(connection, "GET / HTTP/1.1\r\nHost: a\r\nX-Long: %s\r\n\r\n", strings.Repeat("a", 64<<10))
	response, err := http.ReadResponse(bufio.NewReader(connection), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("got %d", response.StatusCode)
	}
}

func TestEveryStepOfACallHasAnEnd(t *testing.T) {
	server := NewServer()
	for name, limit := range map[string]int64{
		"ReadHeaderTimeout": int64(server.ReadHeaderTimeout), "ReadTimeout": int64(server.ReadTimeout),
		"WriteTimeout": int64(server.WriteTimeout), "IdleTimeout": int64(server.IdleTimeout),
	} {
		if limit <= 0 {
			t.Errorf("%s must be set", name)
		}
	}
}
