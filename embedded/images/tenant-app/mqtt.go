package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"
)

const (
	maxMQTTBytes       = 16 << 10
	maxMQTTConnections = 64
	// connectPatience is for the whole of CONNECT, however slowly it comes.
	connectPatience = 10 * time.Second
	longestSilence  = 5 * time.Minute

	mqttConnect    = 1
	mqttConnack    = 2
	mqttPingreq    = 12
	mqttPingresp   = 13
	mqttDisconnect = 14

	mqtt311 = 4
	mqtt5   = 5
)

// verdict is what CONNACK says: a return code of MQTT 3.1.1, and the reason code of MQTT 5 that means the same.
type verdict struct{ code, reason byte }

var (
	accepted      = verdict{0, 0x00}
	wrongVersion  = verdict{1, 0x84}
	notAuthorised = verdict{5, 0x87}
)

// errNotMQTT means that what came is no packet of MQTT's, or none that may come there.
var errNotMQTT = errors.New("the packet must be MQTT's, got another one")

// mqttDoor is where devices come in. It is no broker: whose password is a session of this tenant's is let in and may ping,
// everyone else is told that he is not authorised, and nothing is published to anybody.
type mqttDoor struct {
	// knows tells whether a session is one of ours.
	knows    func(session string) bool
	log      *slog.Logger
	patience time.Duration
}

// serve answers whoever comes until the listener is closed.
func (d mqttDoor) serve(listener net.Listener) error {
	free := make(chan struct{}, maxMQTTConnections)
	for {
		connection, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		if err != nil {
			d.log.Warn("no MQTT connection taken", "reason", err.Error())
			time.Sleep(firstRetry)
			continue
		}
		select {
		case free <- struct{}{}:
			go func() {
				defer func() { <-free }()
				defer connection.Close()
				if err := d.answer(connection); err != nil {
					d.log.Info("MQTT connection ended", "reason", err.Error())
				}
			}()
		default:
			connection.Close()
		}
	}
}

func (d mqttDoor) answer(connection net.Conn) error {
	connection.SetDeadline(time.Now().Add(d.patience))
	reader := bufio.NewReader(connection)
	kind, body, err := readPacket(reader)
	if err != nil {
		return err
	}
	if kind != mqttConnect {
		return errNotMQTT
	}
	asked, err := readConnect(body)
	if err != nil {
		return err
	}
	said := notAuthorised
	if asked.level != mqtt311 && asked.level != mqtt5 {
		said = wrongVersion
	} else if d.knows(asked.password) {
		said = accepted
	}
	if _, err := connection.Write(connack(asked.level, said)); err != nil || said != accepted {
		return err
	}
	for {
		connection.SetDeadline(time.Now().Add(asked.silence()))
		kind, _, err := readPacket(reader)
		switch {
		case err != nil:
			return err
		case kind == mqttDisconnect:
			return nil
		case kind != mqttPingreq:
			return errNotMQTT
		}
		if _, err := connection.Write([]byte{mqttPingresp << 4, 0}); err != nil {
			return err
		}
	}
}

// readPacket reads one packet: its kind, and what follows its length.
func readPacket(reader *bufio.Reader) (kind byte, body []byte, err error) {
	first, err := reader.ReadByte()
	if err != nil {
		return 0, nil, err
	}
	// Flags are set in packets only that nobody may send here.
	if first&0x0f != 0 {
		return 0, nil, errNotMQTT
	}
	length := 0
	for shift := 0; ; shift += 7 {
		part, err := reader.ReadByte()
		if err != nil {
			return 0, nil, err
		}
		length |= int(part&0x7f) << shift
		if part&0x80 == 0 {
			break
		}
		if shift == 21 {
			return 0, nil, errNotMQTT
		}
	}
	if length > maxMQTTBytes {
		return 0, nil, fmt.Errorf("a packet must have at most %d bytes, got %d", maxMQTTBytes, length)
	}
	body = make([]byte, length)
	_, err = io.ReadFull(reader, body)
	return first >> 4, body, err
}

// connect is what counts here of a CONNECT.
type connect struct {
	level     byte
	keepAlive time.Duration
	password  string
}

// silence is how long the other side may say nothing: half as long again as it promised.
func (c connect) silence() time.Duration {
	if c.keepAlive == 0 {
		return longestSilence
	}
	return min(c.keepAlive*3/2, longestSilence)
}

// readConnect reads what follows the length of a CONNECT. Of a version that is not spoken here it tells the level alone.
func readConnect(body []byte) (connect, error) {
	fields := mqttFields{rest: body}
	name := fields.text()
	asked := connect{level: fields.byte()}
	if fields.isShort {
		return connect{}, errNotMQTT
	}
	if name != "MQTT" || asked.level != mqtt311 && asked.level != mqtt5 {
		if name != "MQTT" && name != "MQIsdp" {
			return connect{}, errNotMQTT
		}
		return connect{level: 0}, nil
	}
	flags := fields.byte()
	asked.keepAlive = time.Duration(fields.number()) * time.Second
	skipProperties := func() {
		if asked.level == mqtt5 {
			fields.skip(fields.variable())
		}
	}
	skipProperties()
	fields.text() // the client's name
	if flags&0x04 != 0 {
		skipProperties()
		fields.text() // what is to be said of it once it is gone, and where
		fields.text()
	}
	if flags&0x80 != 0 {
		fields.text() // the user's name
	}
	if flags&0x40 != 0 {
		asked.password = fields.text()
	}
	if fields.isShort || flags&0x01 != 0 || len(fields.rest) > 0 {
		return connect{}, errNotMQTT
	}
	return asked, nil
}

// connack is the whole packet, in the words of the version that was asked for.
func connack(level byte, said verdict) []byte {
	if level == mqtt5 {
		return []byte{mqttConnack << 4, 3, 0, said.reason, 0}
	}
	return []byte{mqttConnack << 4, 2, 0, said.code}
}

// mqttFields takes a packet apart from its front; past its end everything is empty.
type mqttFields struct {
	rest    []byte
	isShort bool
}

func (f *mqttFields) skip(length int) []byte {
	if length > len(f.rest) {
		f.rest, f.isShort = nil, true
		return make([]byte, 2)
	}
	taken := f.rest[:length]
	f.rest = f.rest[length:]
	return taken
}

func (f *mqttFields) byte() byte { return f.skip(1)[0] }

func (f *mqttFields) number() int { return int(binary.BigEndian.Uint16(f.skip(2))) }

func (f *mqttFields) text() string {
	length := f.number()
	taken := f.skip(length)
	if f.isShort {
		return ""
	}
	return string(taken)
}

// variable is a number of up to four bytes, seven bits in each.
func (f *mqttFields) variable() int {
	number := 0
	for shift := 0; shift <= 21; shift += 7 {
		part := f.byte()
		number |= int(part&0x7f) << shift
		if part&0x80 == 0 {
			return number
		}
	}
	f.isShort = true
	return 0
}
