import org.apache.zookeeper.server.ServerConfig;
import org.apache.zookeeper.server.ZooKeeperServerMain;

/** A broker that needs ZooKeeper, with its own in the same process. Arguments: the port and the folder of ZooKeeper, then Kafka's. */
public final class KafkaWithZooKeeper {
    public static void main(String[] arguments) throws Exception {
        // Its admin server would take port 8080.
        System.setProperty("zookeeper.admin.enableServer", "false");
        ServerConfig config = new ServerConfig();
        // The third is the tick in milliseconds. A session lives for two to twenty ticks.
        config.parse(new String[] {arguments[0], arguments[1], "500"});
        Thread server = new Thread(() -> {
            try {
                new ZooKeeperServerMain().runFromConfig(config);
            } catch (Exception error) {
                error.printStackTrace();
                System.exit(1);
            }
        });
        server.setDaemon(true);
        server.start();
        kafka.Kafka.main(new String[] {arguments[2]});
    }
}
