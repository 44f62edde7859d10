package main

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The prefix makes browsers refuse the cookie unless it is Secure, host-only and for the whole site.
const sessionCookie = "__Host-session"

// sessions signs who came when, so that nothing has to be kept. The current secret signs; a previous
// one still verifies, so that rotating ends no session.
type sessions struct {
	secrets [][]byte
	maxAge  time.Duration
	now     func() time.Time
}

// isValid tells whether the request carries a session of ours that has not ended.
func (s sessions) isValid(request *http.Request) bool {
	cookie, err := request.Cookie(sessionCookie)
	return err == nil && s.holds(cookie.Value)
}

// holds tells the same of what a cookie carries.
func (s sessions) holds(value string) bool {
	payload, signature, ok := cutLast(value, ".")
	if !ok {
		return false
	}
	given, err := base64.RawURLEncoding.DecodeString(signature)
	if err != nil || !s.isSigned(payload, given) {
		return false
	}
	_, issued, ok := strings.Cut(payload, ".")
	if !ok {
		return false
	}
	seconds, err := strconv.ParseInt(issued, 10, 64)
	age := s.now().Sub(time.Unix(seconds, 0))
	return err == nil && age >= -time.Minute && age < s.maxAge
}

// start makes a new session.
func (s sessions) start() *http.Cookie {
	id := make([]byte, 16)
	rand.Read(id)
	payload := base64.RawURLEncoding.EncodeToString(id) + "." + strconv.FormatInt(s.now().Unix(), 10)
	return &http.Cookie{
		Name:     sessionCookie,
		Value:    payload + "." + base64.RawURLEncoding.EncodeToString(sign(s.secrets[0], payload)),
		Path:     "/",
		MaxAge:   int(s.maxAge.Seconds()),
		Secure:   true,
		HttpOnly: true,
		SameSite: http.SameSiteLaxMode,
	}
}

func (s sessions) isSigned(payload string, signature []byte) bool {
	for _, secret := range s.secrets {
		if hmac.Equal(signature, sign(secret, payload)) {
			return true
		}
	}
	return false
}

func sign(secret []byte, message string) []byte {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(message))
	return mac.Sum(nil)
}

func cutLast(text, separator string) (before, after string, found bool) {
	at := strings.LastIndex(text, separator)
	if at < 0 {
		return text, "", false
	}
	return text[:at], text[at+len(separator):], true
}
