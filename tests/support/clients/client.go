// Shows a token to a service at a port: from SECRET, from the file that TOKEN_FILE names, or from standard input.
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"
)

func main() {
	token := []byte(os.Getenv("SECRET"))
	if file := os.Getenv("TOKEN_FILE"); file != "" {
		token, _ = os.ReadFile(file)
	} else if len(token) == 0 {
		token, _ = io.ReadAll(os.Stdin)
	}
	service, err := net.Dial("tcp", "127.0.0.1:"+os.Args[1])
	if err != nil {
		panic(err)
	}
	fmt.Fprintf(service, "GET / HTTP/1.0\r\nAuthorization: Bearer %s\r\n\r\n", strings.TrimSpace(string(token)))
	io.Copy(os.Stdout, service)
}
