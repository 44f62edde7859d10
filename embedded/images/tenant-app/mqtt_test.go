package main

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

const testSession = "a session of ours"

// startDoor opens a door on loopback, shut with the test, and tells its address.
func startDoor(t *testing.T, patience time.Duration) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	door := mqttDoor{func(session string) bool { return session == testSession }, slog.New(slog.NewTextHandler(io.Discard, nil)), patience}
	ended := make(chan error, 1)
	go func() { ended <- door.serve(listener) }()
	t.Cleanup(func() {
		listener.Close()
		if err := <-ended; !errors.Is(err, net.ErrClosed) {
			t.Errorf("got %v", err)
		}
	})
	return listener.Addr().String()
}

func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	connection, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { connection.Close() })
	connection.SetDeadline(time.Now().Add(5 * time.Second))
	return connection
}

// told sends bytes and reads until the other side has ended the connection.
func told(t *testing.T, address string, sent []byte) string {
	t.Helper()
	connection := dial(t, address)
	if _, err := connection.Write(sent); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(connection)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %x and no end", answer)
	}
	return hex.EncodeToString(answer)
}

func text(value string) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(value))), value...)
}

// connecting is a CONNECT of a client called "device".
func connecting(level, flags byte, payload ...[]byte) []byte {
	body := append(text("MQTT"), level, flags, 0, 60)
	if level == mqtt5 {
		// Properties: a session expires after 10 s.
		body = append(body, 5, 0x11, 0, 0, 0, 10)
	}
	body = append(body, text("device")...)
	body = append(body, bytes.Join(payload, nil)...)
	return append([]byte{mqttConnect << 4, byte(len(body))}, body...)
}

func TestMQTTRefusesWhoeverBringsNoSession(t *testing.T) {
	address := startDoor(t, connectPatience)
	name, will := text("someone"), append(text("gone"), text("bye")...)
	for what, sent := range map[string]struct {
		packet []byte
		want   string
	}{
		"nothing":                     {connecting(mqtt311, 0x02), "20020005"},
		"a name":                      {connecting(mqtt311, 0x82, name), "20020005"},
		"a wrong password":            {connecting(mqtt311, 0xc2, name, text("guess")), "20020005"},
		"an empty password":           {connecting(mqtt311, 0xc2, name, text("")), "20020005"},
		"a session as its name":       {connecting(mqtt311, 0x82, text(testSession)), "20020005"},
		"a session as its last words": {connecting(mqtt311, 0x06, text("gone"), text(testSession)), "20020005"},
		"nothing, by MQTT 5":          {connecting(mqtt5, 0x02), "2003008700"},
		"last words, by MQTT 5":       {connecting(mqtt5, 0xc6, []byte{0}, will, name, text("guess")), "2003008700"},
		"MQTT 3.1":                    {[]byte("\x10\x13\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x05devic"), "20020001"},
		"MQTT 6":                      {connecting(6, 0x02), "20020001"},
	} {
		if got := told(t, address, sent.packet); got != sent.want {
			t.Errorf("%s: got %s, want %s", what, got, sent.want)
		}
	}
}

func TestMQTTLetsASessionInToPingAndToNothingElse(t *testing.T) {
	address := startDoor(t, connectPatience)
	password := text(testSession)
	for want, packet := range map[string][]byte{
		"20020000":   connecting(mqtt311, 0xc2, text("someone"), password),
		"2003000000": connecting(mqtt5, 0xc6, []byte{0}, text("gone"), text("bye"), text("someone"), password),
	} {
		ping, publish, end := []byte{mqttPingreq << 4, 0}, []byte{0x30, 3, 0, 1, 'a'}, []byte{mqttDisconnect << 4, 0}
		for last, after := range map[string][]byte{"a publication": publish, "the end": end} {
			sent := bytes.Join([][]byte{packet, ping, ping, after, ping}, nil)
			if got := told(t, address, sent); got != want+"d000d000" {
				t.Errorf("before %s: got %s", last, got)
			}
		}
	}
}

func TestMQTTSaysNothingToWhatIsNone(t *testing.T) {
	address := startDoor(t, connectPatience)
	good := connecting(mqtt311, 0xc2, text("someone"), text(testSession))
	longer := append(bytes.Clone(good), 0)
	longer[1]++
	shorter := bytes.Clone(good)[:len(good)-1]
	shorter[1]--
	for what, sent := range map[string][]byte{
		"HTTP":                     []byte("GET / HTTP/1.1\r\nHost: acme\r\n\r\n"),
		"a ping before all":        {mqttPingreq << 4, 0},
		"an empty CONNECT":         {mqttConnect << 4, 0},
		"another protocol":         []byte("\x10\x08\x00\x04AMQP\x04\x02"),
		"a reserved flag":          connecting(mqtt311, 0x03),
		"a byte too many":          longer,
		"a byte too few":           shorter,
		"flags of the packet":      append([]byte{mqttConnect<<4 | 1}, good[1:]...),
		"a length without an end":  {mqttConnect << 4, 0xff, 0xff, 0xff, 0xff, 0x01},
		"more than is read":        {mqttConnect << 4, 0xff, 0xff, 0xff, 0x7f},
		"properties without end":   []byte("\x10\x0f\x00\x04MQTT\x05\x02\x00\x3c\xff\xff\xff\xff\x01"),
		"a password that is short": {mqttConnect << 4, 14, 0, 4, 'M', 'Q', 'T', 'T', 4, 0x42, 0, 60, 0, 0, 0xff, 0xff},
	} {
		if got := told(t, address, sent); got != "" {
			t.Errorf("%s: got %s", what, got)
		}
	}
}

func TestMQTTWaitsForNobodyAndTakesOnlySoMany(t *testing.T) {
	const patience = 200 * time.Millisecond
	address := startDoor(t, patience)
	started := time.Now()
	if got := told(t, address, connecting(mqtt311, 0x02)[:5]); got != "" || time.Since(started) < patience {
		t.Errorf("got %q after %s", got, time.Since(started))
	}
	crowded := startDoor(t, time.Minute)
	for range maxMQTTConnections {
		connection := dial(t, crowded)
		connection.Write(connecting(mqtt311, 0xc2, text("someone"), text(testSession)))
		if answer := make([]byte, 4); func() bool { _, err := io.ReadFull(connection, answer); return err != nil }() {
			t.Fatalf("got %x", answer)
		}
	}
	one := dial(t, crowded)
	if answer, _ := io.ReadAll(one); len(answer) > 0 {
		t.Errorf("got %x", answer)
	}
}

func TestSilenceIsHalfAsLongAgainAsPromisedAndNeverLong(t *testing.T) {
	for keepAlive, want := range map[time.Duration]time.Duration{
		0: longestSilence, 60 * time.Second: 90 * time.Second, 18 * time.Hour: longestSilence,
	} {
		if got := (connect{keepAlive: keepAlive}).silence(); got != want {
			t.Errorf("%s: got %s, want %s", keepAlive, got, want)
		}
	}
}

func TestReadSettingsTakesAPortForMQTTOrNone(t *testing.T) {
	environment := contract(t)
	if got := settings(t, environment).MQTTPort; got != 0 {
		t.Errorf("got %d", got)
	}
	environment["MQTT_PORT"] = "1883"
	if got := settings(t, environment).MQTTPort; got != 1883 {
		t.Errorf("got %d", got)
	}
	environment["MQTT_PORT"] = "mqtt"
	if _, err := reading(environment); err == nil || !strings.Contains(err.Error(), `setting "MQTT_PORT": must be a number from 1 to 65535, got "mqtt"; set it in the Deployment`) {
		t.Errorf("got %v", err)
	}
}

func TestServerKnowsASessionThatItHasStarted(t *testing.T) {
	server := serverWith(t, countingStore{}, contract(t))
	started := ask(server.Handler(), "GET", "/", plain).Result().Cookies()[0]
	if !server.knowsSession(started.Value) || server.knowsSession(started.Value+"x") || server.knowsSession("") {
		t.Error("must know its own session and no other")
	}
}
