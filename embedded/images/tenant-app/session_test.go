package main

import (
	"net/http"
	"testing"
	"time"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func carrying(cookie *http.Cookie) *http.Request {
	request, _ := http.NewRequest(http.MethodGet, "/", nil)
	request.AddCookie(cookie)
	return request
}

func sessionsAt(at time.Time, secrets ...string) sessions {
	var all [][]byte
	for _, secret := range secrets {
		all = append(all, []byte(secret))
	}
	return sessions{all, time.Hour, func() time.Time { return at }}
}

func TestSessionCookieIsKeptToHTTPSThisHostAndTheServer(t *testing.T) {
	cookie := sessionsAt(start, "current").start()
	got := *cookie
	got.Value = ""
	want := http.Cookie{Name: "__Host-session", Path: "/", MaxAge: 3600, Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode}
	if got.String() != want.String() {
		t.Fatalf("got %s, want %s", got.String(), want.String())
	}
}

func TestSessionHoldsUntilItsEnd(t *testing.T) {
	cookie := sessionsAt(start, "current").start()
	for _, at := range []struct {
		age  time.Duration
		want bool
	}{{0, true}, {time.Hour - time.Second, true}, {time.Hour, false}, {-2 * time.Minute, false}} {
		if got := sessionsAt(start.Add(at.age), "current").isValid(carrying(cookie)); got != at.want {
			t.Errorf("at age %s: got %t, want %t", at.age, got, at.want)
		}
	}
}

func TestSessionOutlivesOneRotationOfTheSecretAndNoSecond(t *testing.T) {
	cookie := sessionsAt(start, "first").start()
	if !sessionsAt(start, "second", "first").isValid(carrying(cookie)) {
		t.Error("refused while its secret is the previous one")
	}
	if sessionsAt(start, "third", "second").isValid(carrying(cookie)) {
		t.Error("taken after its secret has gone")
	}
}

func TestSessionRefusesWhatWasChanged(t *testing.T) {
	cookie := sessionsAt(start, "current").start()
	for position := range cookie.Value {
		spoiled := *cookie
		changed := []byte(spoiled.Value)
		// Two letters apart, so that the unused bits at the end of base64 are not all that differs.
		changed[position] = "AZ"[map[bool]int{true: 1}[changed[position] < 'M']]
		if string(changed) == cookie.Value {
			continue
		}
		spoiled.Value = string(changed)
		if position < len(cookie.Value)-1 && sessionsAt(start, "current").isValid(carrying(&spoiled)) {
			t.Errorf("changed at %d: taken", position)
		}
	}
	for _, value := range []string{"", ".", "..", "a.b.c", "1767323045"} {
		if sessionsAt(start, "current").isValid(carrying(&http.Cookie{Name: sessionCookie, Value: value})) {
			t.Errorf("%q: taken", value)
		}
	}
}
