// Shows a token to a service at a port: from SECRET, from the file that TOKEN_FILE names, or from standard input.
import java.io.BufferedReader;
import java.io.FileReader;
import java.net.Socket;

public class Client {
    public static void main(String[] words) throws Exception {
        String token = System.getenv("SECRET");
        if (System.getenv("TOKEN_FILE") != null) {
            // Not readAllBytes, which asks for the position: a pipe has none.
            try (BufferedReader file = new BufferedReader(new FileReader(System.getenv("TOKEN_FILE")))) {
                token = file.readLine();
            }
        } else if (token == null) {
            token = new String(System.in.readAllBytes());
        }
        try (Socket service = new Socket("127.0.0.1", Integer.parseInt(words[0]))) {
            String request = "GET / HTTP/1.0\r\nAuthorization: Bearer " + token.strip() + "\r\n\r\n";
            service.getOutputStream().write(request.getBytes());
            service.getInputStream().transferTo(System.out);
        }
    }
}
