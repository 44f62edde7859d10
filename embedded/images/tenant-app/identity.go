package main

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// Identity says who may sign in, how, and for how long.
type Identity struct {
	Providers []Provider
	// Registration is "open" where people may register by themselves, else "closed".
	Registration string
	// SecondFactorRoles must show a second factor.
	SecondFactorRoles []string
	SessionMaxAge     time.Duration
	// AccessMaxAge and RefreshMaxAge are how long an access token and a refresh token are good for.
	AccessMaxAge  time.Duration
	RefreshMaxAge time.Duration
}

// Provider says who somebody is. Of its addresses it has those of its kind; what signs in there is in files.
type Provider struct {
	// Kind is "oidc", "oauth2", "saml" or "ldap".
	Kind string `json:"kind"`
	Name string `json:"name"`

	Issuer       string `json:"issuer,omitempty"`
	AuthorizeURL string `json:"authorizeUrl,omitempty"`
	TokenURL     string `json:"tokenUrl,omitempty"`

	EntityID string `json:"entityId,omitempty"`
	SSOURL   string `json:"ssoUrl,omitempty"`
	// Certificate is the one that the provider signs with: X.509, DER, in base64.
	Certificate string `json:"certificate,omitempty"`

	URL    string `json:"url,omitempty"`
	BaseDN string `json:"baseDn,omitempty"`
}

// Mail is the relay that takes the tenant's mail. Without STARTTLS nothing is sent to it.
type Mail struct {
	Host string
	Port int
	From string
}

// Meters are what the tenant's plan lets the application keep and count.
type Meters struct {
	DataRetentionDays  int `json:"dataRetentionDays"`
	ExecutionsPerMonth int `json:"executionsPerMonth"`
	ReplaysPerMonth    int `json:"replaysPerMonth"`
}

var (
	roleName     = regexp.MustCompile(`^[a-z]+$`)
	providerName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,39}$`)
)

func readIdentity(reader *settingsReader, credentials string) Identity {
	days := func(name string, otherwise int) time.Duration {
		return time.Duration(reader.number(name, otherwise, 1, 400)) * 24 * time.Hour
	}
	identity := Identity{
		Registration:      reader.text("REGISTRATION", "closed"),
		SecondFactorRoles: strings.Split(reader.text("SECOND_FACTOR_ROLES", "operator"), ","),
		SessionMaxAge:     days("SESSION_DAYS", 14),
		AccessMaxAge:      time.Duration(reader.number("ACCESS_MINUTES", 60, 1, 24*60)) * time.Minute,
		RefreshMaxAge:     days("REFRESH_DAYS", 30),
	}
	if identity.Registration != "open" && identity.Registration != "closed" {
		reader.refuse("REGISTRATION", "must be open or closed, got %q; set it in the Deployment", identity.Registration)
	}
	for _, role := range identity.SecondFactorRoles {
		if !roleName.MatchString(role) {
			reader.refuse("SECOND_FACTOR_ROLES", "must be roles by comma, got %q; write them like operator,owner", role)
		}
	}
	if text, ok := reader.lookup("IDENTITY_PROVIDERS"); ok && text != "" {
		decoder := json.NewDecoder(bytes.NewBufferString(text))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&identity.Providers); err != nil {
			reader.refuse("IDENTITY_PROVIDERS", "must be a JSON list of identity providers, got what is none: %w", err)
		}
	}
	names := map[string]bool{}
	for _, provider := range identity.Providers {
		if !providerName.MatchString(provider.Name) || names[provider.Name] {
			reader.refuse("IDENTITY_PROVIDERS", "must name each provider once, in at most 40 small letters, digits and hyphens, got %q; correct it in the Deployment", provider.Name)
			continue
		}
		names[provider.Name] = true
		reader.check("IDENTITY_PROVIDERS", func() error { return provider.check(credentials) })
	}
	return identity
}

// check tells what the provider is short of, its files included.
func (p Provider) check(credentials string) error {
	needed, isKind := map[string]map[string]string{
		"oidc":   {"issuer": p.Issuer},
		"oauth2": {"authorizeUrl": p.AuthorizeURL, "tokenUrl": p.TokenURL},
		"saml":   {"entityId": p.EntityID, "ssoUrl": p.SSOURL, "certificate": p.Certificate},
		"ldap":   {"url": p.URL, "baseDn": p.BaseDN},
	}[p.Kind]
	if !isKind {
		return fmt.Errorf("provider %q must be of kind oidc, oauth2, saml or ldap, got %q; correct it in the Deployment", p.Name, p.Kind)
	}
	for name, value := range needed {
		if value == "" {
			return fmt.Errorf("provider %q must have %s, got none; set it in the Deployment", p.Name, name)
		}
	}
	if p.Kind == "saml" {
		der, err := base64.StdEncoding.DecodeString(p.Certificate)
		if err == nil {
			_, err = x509.ParseCertificate(der)
		}
		if err != nil {
			return fmt.Errorf("provider %q must have an X.509 certificate in base64, got what is none; correct it in the Deployment", p.Name)
		}
		return nil
	}
	for _, part := range []string{"id", "secret"} {
		if _, err := readPassword(filepath.Join(credentials, "provider-"+p.Name+"-"+part)); err != nil {
			return err
		}
	}
	return nil
}

// readMail is nil where the tenant has no relay.
func readMail(reader *settingsReader, credentials string) *Mail {
	host, _ := reader.lookup("MAIL_HOST")
	if host == "" {
		return nil
	}
	mail := &Mail{host, reader.number("MAIL_PORT", 587, 26, 65535), reader.text("MAIL_FROM", "")}
	if insists := reader.text("MAIL_STARTTLS", "required"); insists != "required" {
		reader.refuse("MAIL_STARTTLS", "must be required, got %q; leave it out of the Deployment or set it so", insists)
	}
	for _, part := range []string{"mail-user", "mail-password"} {
		reader.check("CREDENTIALS_DIRECTORY", func() error { _, err := readPassword(filepath.Join(credentials, part)); return err })
	}
	return mail
}

type attestedProvider struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
}

// attested is what everyone may know: no address, and nothing that signs in.
func (i Identity) attested(callback string) map[string]any {
	providers := []attestedProvider{}
	for _, provider := range i.Providers {
		providers = append(providers, attestedProvider{provider.Kind, provider.Name})
	}
	return map[string]any{
		"callback":      callback,
		"providers":     providers,
		"registration":  i.Registration,
		"secondFactor":  i.SecondFactorRoles,
		"accessSeconds": int(i.AccessMaxAge.Seconds()), "refreshSeconds": int(i.RefreshMaxAge.Seconds()),
	}
}

// attested is nil, as JSON null, where there is no relay.
func (m *Mail) attested() any {
	if m == nil {
		return nil
	}
	return map[string]any{"host": m.Host, "port": m.Port, "startTls": "required"}
}
