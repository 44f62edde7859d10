package archive

import "testing"

func head(minor byte, compression ...byte) []byte {
	integer := func(value byte) []byte { return []byte{0, value, 0, 0, 0} }
	text := func(value string) []byte { return append(integer(byte(len(value))), value...) }
	bytes := append([]byte("PGDMP"), 1, minor, 0, 4, 8, 1)
	bytes = append(bytes, compression...)
	for range timeFields {
		bytes = append(bytes, integer(3)...)
	}
	bytes = append(bytes, text("acme")...)
	bytes = append(bytes, text("15.18 (Debian 15.18-0+deb12u1)")...)
	return append(bytes, text("16.2")...)
}

func TestVersionsReadsBothLayoutsOfTheHead(t *testing.T) {
	want := Versions{Server: "15.18 (Debian 15.18-0+deb12u1)", PgDump: "16.2"}
	for name, content := range map[string][]byte{
		"PostgreSQL 15": head(14, 0, 0, 0, 0, 0),
		"PostgreSQL 16": head(15, 0),
	} {
		collected := &Head{}
		for _, part := range content {
			collected.Write([]byte{part})
		}
		collected.Write(make([]byte, 100_000))
		if got, err := collected.Versions(); err != nil || got != want {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
}

func TestVersionsRefusesEveryCutHeadAndAnythingElse(t *testing.T) {
	whole := head(14, 0, 0, 0, 0, 0)
	for length := range whole {
		collected := &Head{}
		collected.Write(whole[:length])
		if _, err := collected.Versions(); err == nil {
			t.Errorf("cut at %d: got no error", length)
		}
	}
	collected := &Head{}
	collected.Write([]byte("-- PostgreSQL database dump"))
	if _, err := collected.Versions(); err == nil || err.Error() != "the dump must be a pg_dump archive in custom format, got something else" {
		t.Errorf("got %v", err)
	}
}
